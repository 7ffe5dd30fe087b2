//! Photos, reference results, and images with one defect each.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

pub fn folder() -> PathBuf {
    checkout().join("tests/fixtures")
}

/// A model folder as `darkroom models push` takes it.
pub fn model(name: &str) -> PathBuf {
    checkout().join("models").join(name)
}

/// The checkout at run time: a bench may run on another machine than its build.
fn checkout() -> PathBuf {
    local::checkout().unwrap()
}

/// Model that classifies.
pub const CLASSIFIER: &str = "efficientnet-lite0";
/// Model that embeds, from the artifact of the classifier.
pub const EMBEDDER: &str = "efficientnet-lite0-embed";

pub fn read(path: &str) -> Vec<u8> {
    std::fs::read(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn photo(name: &str) -> Vec<u8> {
    read(&format!("photos/{name}"))
}

pub fn json(path: &str) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// An embedding as `reference.json` stores it.
pub fn embedding(reference: &Value) -> Vec<f64> {
    let bytes = reference["f32_le_base64"].as_str().unwrap();
    let bytes = STANDARD.decode(bytes).unwrap();
    let (floats, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    floats
        .iter()
        .map(|float| f64::from(f32::from_le_bytes(*float)))
        .collect()
}

/// An embedding as the service returns it.
pub fn answered_embedding(result: &Value) -> Vec<f64> {
    let values = result["embedding"].as_array().unwrap();
    assert_eq!(result["dim"], values.len());
    values.iter().map(|value| value.as_f64().unwrap()).collect()
}

pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
