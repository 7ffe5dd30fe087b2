//! The pictures that clients send, and the results of undisturbed workers for them.

use std::{collections::HashMap, io::Cursor};

use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;
use tests::{Client, fixtures};

use crate::{
    cluster::Cluster,
    plans::{CLASSIFIER, EMBEDDER, PICKY},
};

/// Scores differ a little with the size of the forward batch.
const DIFFERENCE_MAX: f64 = 0.002;

#[derive(Debug)]
pub struct Photos {
    pub good: Vec<Picture>,
    /// The API accepts these; the worker cannot decode them.
    pub bad: Vec<Picture>,
    /// The API refuses these.
    pub refused: Vec<Picture>,
    /// Fails every forward pass of the model `picky` that contains it.
    pub white: Picture,
    /// Every worker that claims it is killed.
    pub poison: Picture,
    references: HashMap<(String, &'static str), Value>,
}

#[derive(Debug, Clone)]
pub struct Picture {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Picture {
    /// Adds a comment to a JPEG: the pixels stay, the bytes are new to the service.
    pub fn make_unique(&mut self, comment: &str) {
        if self.bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            let length = u16::try_from(comment.len() + 2).unwrap().to_be_bytes();
            let segment = [&[0xff, 0xfe], length.as_slice(), comment.as_bytes()].concat();
            self.bytes.splice(2..2, segment);
        }
    }
}

impl Photos {
    /// Reads the fixtures, and gets a reference result for every photo and model before any fault.
    pub async fn with_references(cluster: &Cluster) -> Self {
        let mut good: Vec<_> = std::fs::read_dir(fixtures::folder().join("photos"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| {
                [".jpg", ".png", ".gif", ".webp"]
                    .iter()
                    .any(|end| name.ends_with(end))
            })
            .map(|name| read(&format!("photos/{name}")))
            .collect();
        good.sort_by(|a, b| a.name.cmp(&b.name));
        let bad = [
            "truncated.jpg",
            "bad-crc.png",
            "garbage-huffman.jpg",
            "missing-tables.jpg",
        ];
        let refused = [
            "text.jpg",
            "page.html",
            "header-cut.png",
            "bomb-30000x30000.png",
        ];
        let client = Client::new(cluster.fronts().remove(0), Some(cluster.key.clone()));
        let mut references = HashMap::new();
        for photo in &good {
            for model in [CLASSIFIER, EMBEDDER, PICKY] {
                let query = format!("?model={model}");
                let job = client.predicted(&query, photo.bytes.clone()).await;
                references.insert((photo.name.clone(), model), job["result"].clone());
            }
        }
        Self {
            good,
            bad: bad.map(|name| read(&format!("bad/{name}"))).into(),
            refused: refused.map(|name| read(&format!("bad/{name}"))).into(),
            white: single_color("white", [255, 255, 255]),
            poison: single_color("poison", [90, 200, 30]),
            references,
        }
    }

    pub fn references(&self) -> usize {
        self.references.len()
    }

    /// Whether a result equals the reference, within `DIFFERENCE_MAX`.
    pub fn matches_reference(&self, photo: &str, model: &'static str, result: &Value) -> bool {
        let reference = self.references.get(&(photo.to_owned(), model));
        reference.is_some_and(|reference| nearly_equal(reference, result))
    }
}

fn nearly_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= DIFFERENCE_MAX
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| nearly_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name).is_some_and(|b| nearly_equal(a, b)))
        }
        _ => a == b,
    }
}

fn read(path: &str) -> Picture {
    let name = path.rsplit('/').next().unwrap();
    Picture {
        name: name.into(),
        bytes: fixtures::read(path),
    }
}

fn single_color(name: &str, color: [u8; 3]) -> Picture {
    let mut bytes = Cursor::new(vec![]);
    let image = RgbImage::from_pixel(96, 64, Rgb(color));
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    Picture {
        name: name.into(),
        bytes: bytes.into_inner(),
    }
}
