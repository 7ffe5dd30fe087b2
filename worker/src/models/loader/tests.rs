//! Loads the modules of `tests/fixtures/make_modules.py`, and compares their answers with those of Python.

use std::{collections::BTreeMap, path::PathBuf};

use jobs::manifest::{Activation, Manifest, Precision};
use serde_json::json;

use super::{LoadError, Loader, Model};
use crate::{
    models::{ModelWarning, RefusedArtifact, Unreliable},
    torch::{Device, DeviceChoice, Output, probe_images},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/modules");
/// Bytes of an image, `u8[8, 8, 3]`.
const IMAGE_BYTES: usize = 8 * 8 * 3;

/// What Python answers to each image alone, by file name without `.pt`.
fn answers_of_python() -> BTreeMap<String, Vec<Vec<f32>>> {
    let text = std::fs::read(PathBuf::from(FOLDER).join("answers.json")).expect("a fixture");
    serde_json::from_slice(&text).expect("JSON")
}

fn manifest(batch_max: usize) -> Manifest {
    let manifest = json!({
        "name": "module", "task": "raw", "artifact": "model.pt", "batch_max": batch_max,
        "input": {"width": 8, "height": 8, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255]},
        "precision": ["fp32", "bf16"],
    });
    serde_json::from_value(manifest).expect("a manifest")
}

fn loader(name: &str, precision: Precision, batch_max: usize) -> Loader {
    Loader {
        version_id: 1,
        reference: "module:1".into(),
        manifest: manifest(batch_max),
        labels: Vec::new(),
        artifact_name: "model.pt".into(),
        artifact: PathBuf::from(FOLDER).join(format!("{name}.pt")),
        bytes: 1,
        device: Device::open(DeviceChoice::Cpu).expect("every machine has a CPU"),
        precision,
        batch_max,
        infer_threads: 1,
        check_output: |_, _, _| Ok(()),
    }
}

fn load_with(name: &str, precision: Precision, batch_max: usize) -> Result<Model, LoadError> {
    loader(name, precision, batch_max).load()
}

fn load(name: &str) -> Result<Model, LoadError> {
    load_with(name, Precision::Fp32, 4)
}

fn loaded(name: &str) -> Model {
    load(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The answers of the model for the two images of Python, each image alone.
fn answers(model: &Model) -> Vec<Output> {
    let images = probe_images(IMAGE_BYTES);
    let alone = images.iter().flat_map(|image| {
        let answer = model.program.forward(&[image]);
        answer.expect("it runs")
    });
    alone.collect()
}

fn assert_close(name: &str, outputs: &[Output], expected: &[Vec<f32>], difference_max: f32) {
    assert_eq!(outputs.len(), expected.len(), "{name}");
    for (output, expected) in outputs.iter().zip(expected) {
        let mut pairs = output.values.iter().zip(expected);
        let is_close = |(value, expected): (&f32, &f32)| {
            (value - expected).abs() <= difference_max * expected.abs().max(1.0)
        };
        let are_close = output.values.len() == expected.len() && pairs.all(is_close);
        assert!(are_close, "{name}: {:?} is not {expected:?}", output.values);
    }
}

#[test]
fn a_module_with_buffers_of_any_type_answers_as_in_python() {
    let known = answers_of_python();
    let known = known.iter().filter(|(name, _)| !name.contains(' '));
    let mut count = 0;
    for (name, expected) in known {
        let model = loaded(name);
        assert_close(name, &answers(&model), expected, 1e-5);
        count += 1;
    }
    assert!(count >= 28, "{count} modules");
}

#[test]
fn images_that_share_a_forward_pass_get_the_answers_of_python() {
    let known = answers_of_python();
    let [first, second] = probe_images(IMAGE_BYTES);
    for name in [
        "window.script",
        "window.trace",
        "complex.trace",
        "double.script",
    ] {
        let model = loaded(name);
        assert_eq!(model.warning(), None, "{name}");
        let outputs = model.program.forward(&[&first, &second]).expect("it runs");
        assert_close(name, &outputs, &known[name], 1e-5);
    }
}

#[test]
fn bf16_casts_floating_point_tensors_and_no_others() {
    for (key, expected) in answers_of_python() {
        if let Some(name) = key.strip_suffix(" bf16") {
            let model = load_with(name, Precision::Bf16, 1)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_close(&key, &answers(&model), &expected, 0.01);
        }
    }
}

#[test]
fn a_module_traced_in_training_mode_is_refused_with_its_operator() {
    for (name, expected) in [
        ("trained_norm.trace", "batch_norm"),
        ("dropout.trace", "dropout"),
        ("functional_dropout.script", "dropout"),
    ] {
        for batch_max in [1, 4] {
            let error = load_with(name, Precision::Fp32, batch_max);
            let error = error.expect_err("it is refused");
            let LoadError::Unreliable(Unreliable::TrainingMode { operator }) = &error else {
                panic!("{name}: {error}");
            };
            assert_eq!(operator, expected, "{name}");
            assert!(error.to_string().contains("`model.eval()`"), "{error}");
        }
    }
}

#[test]
fn a_module_saved_in_training_mode_runs_in_evaluation_mode() {
    assert_eq!(loaded("saved_in_training.script").warning(), None);
}

#[test]
fn a_module_with_random_answers_is_refused() {
    let error = load("noise.script").expect_err("it is refused");
    assert!(
        matches!(error, LoadError::Unreliable(Unreliable::Random)),
        "{error}"
    );
}

#[test]
fn a_module_whose_answers_depend_on_neighbors_runs_one_image_at_a_time() {
    for name in [
        "batch_mean.trace",
        "first_row.trace",
        "largest_of_all.script",
        "by_size.script",
        "norm_without_statistics.trace",
    ] {
        let model = loaded(name);
        assert_eq!(
            model.warning(),
            Some(&ModelWarning::DependsOnNeighbors),
            "{name}"
        );
        assert_eq!((model.best_batch(), model.next_batch()), (1, 1), "{name}");
        assert_eq!(
            model.remarks().warning,
            Some("depends_on_neighbors"),
            "{name}"
        );
        let warning = model.to_loaded_model().warning.expect("operators see it");
        assert!(warning.starts_with("runs one image at a time"), "{warning}");
    }
}

/// Both images of the probe get all of the first class, so their softmax tells nothing.
#[test]
fn a_softmax_does_not_hide_that_answers_depend_on_neighbors() {
    let mut steep = loader("steep_first_row.script", Precision::Fp32, 4);
    steep.manifest.output.activation = Activation::Softmax;
    for loader in [
        steep,
        loader("steep_first_row_softmax.script", Precision::Fp32, 4),
    ] {
        let model = loader.load().expect("it loads");
        assert_eq!(model.warning(), Some(&ModelWarning::DependsOnNeighbors));
    }
}

#[test]
fn operators_see_the_artifact_and_those_that_were_refused() {
    let mut model = loaded("batch_mean.trace");
    let alone = model.to_loaded_model();
    assert_eq!(alone.artifact.as_deref(), Some("model.pt"));
    model.refused.push(RefusedArtifact {
        name: "cpu-avx2.pt2".into(),
        cause: "the outputs differ".into(),
    });
    let expected = format!(
        "runs model.pt because cpu-avx2.pt2 cannot be used: the outputs differ; {}",
        alone.warning.expect("it depends on neighbors")
    );
    assert_eq!(model.to_loaded_model().warning, Some(expected));
    assert_eq!(
        model.remarks().warning,
        Some("depends_on_neighbors"),
        "results have the code of the other warning"
    );
}

#[test]
fn such_a_module_has_no_warning_if_it_takes_one_image_anyway() {
    let model = load_with("batch_mean.trace", Precision::Fp32, 1).expect("it loads");
    assert_eq!(model.warning(), None);
}

#[test]
fn rounding_that_differs_by_size_is_no_dependence_on_neighbors() {
    assert_eq!(loaded("near_ties.script").warning(), None);
}

#[test]
fn a_size_that_fails_at_load_is_never_used() {
    for (name, failing, largest) in [("fixed_size.trace", 2, 1), ("fixed_pair.script", 4, 2)] {
        let model = loaded(name);
        let Some(ModelWarning::BatchFails { images, .. }) = model.warning() else {
            panic!("{name}: {:?}", model.warning());
        };
        assert_eq!(*images, failing, "{name}");
        assert!(
            model.best_batch() <= largest,
            "{name}: {}",
            model.best_batch()
        );
        assert_eq!(model.remarks().warning, None, "the answers are right");
    }
}
