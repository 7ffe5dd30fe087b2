//! Decodes the images of `tests/fixtures`: a good image looks like its twin, and a bad one fails with its code.

use std::{fs, path::PathBuf};

use fast_image_resize::Resizer;
use image::ImageFormat;
use jobs::manifest::InputSpec;
use serde_json::{Value, json};

use super::{DecodeLimits, decode};
use crate::pipeline::{
    Placement,
    preprocess::{preprocess, shrink},
};

/// Largest mean difference of a channel between twins, of 255. Measured: up to 2.6 (EXIF rotations, CMYK JPEG).
const TWIN_DIFFERENCE_MAX: f64 = 4.0;

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"))
}

fn limits() -> DecodeLimits {
    DecodeLimits {
        pixels_max: 40_000_000,
        side_px_max: 12_000,
        bytes_max: 512 << 20,
        formats: vec![
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Gif,
        ],
    }
}

fn input(full_decode: bool) -> InputSpec {
    let input = json!({"width": 224, "height": 224, "resize": "center_crop", "crop_ratio": 0.875, "filter": "catmull_rom",
        "mean": [127, 127, 127], "std": [128, 128, 128], "full_decode": full_decode});
    serde_json::from_value(input).expect("input")
}

/// The input of the model, or the code of the error.
fn decode_and_preprocess(bytes: &[u8], input: &InputSpec) -> Result<Vec<u8>, &'static str> {
    let shrink = |width, height| shrink(input, width, height);
    let image =
        decode(bytes, &limits(), &shrink, Vec::new()).map_err(|error| error.code.as_str())?;
    let placement = Placement::of(input, image.width(), image.height());
    Ok(preprocess(&mut Resizer::new(), &image, input, &placement).expect("any image fits"))
}

fn difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.len() as f64
}

fn read(name: &str) -> Vec<u8> {
    let path = fixtures().join("bad").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_bad_image_ends_as_its_manifest_says() {
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).expect("manifest");
    let input = input(false);
    let mut wrong = Vec::new();
    for file in manifest["files"].as_array().expect("files") {
        let name = file["file"].as_str().expect("name");
        let code = file["job"]["code"]
            .as_str()
            .or(file["post"]["code"].as_str());
        // The API may refuse a file for other reasons. The decoder must agree with its code in all other cases.
        let code = code.map(|code| {
            if code == "invalid_request" {
                "unsupported_media_type"
            } else {
                code
            }
        });
        let preprocessed = decode_and_preprocess(&read(name), &input);
        if preprocessed.as_ref().err().copied() != code {
            wrong.push(format!(
                "{name}: expected {code:?}, came to {:?}",
                preprocessed.map(|_| "pixels")
            ));
        } else if let (Ok(pixels), Some(twin)) = (preprocessed, file["job"]["twin"].as_str()) {
            let twin = decode_and_preprocess(&read(twin), &input).expect("a twin decodes");
            let difference = difference(&pixels, &twin);
            if difference > TWIN_DIFFERENCE_MAX {
                wrong.push(format!("{name}: differs from its twin by {difference:.2}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_scaled_photo_looks_like_the_full_one() {
    for photo in ["ladybird.jpg", "cat.jpg", "coffee.jpg"] {
        let bytes = fs::read(fixtures().join("photos").join(photo)).expect("photo");
        let (scaled, full) = (
            decode_and_preprocess(&bytes, &input(false)),
            decode_and_preprocess(&bytes, &input(true)),
        );
        let difference = difference(&scaled.expect("decodes"), &full.expect("decodes"));
        assert!(difference < 4.0, "{photo}: {difference:.2}");
    }
}

#[test]
fn a_cut_photo_is_refused_wherever_it_is_cut() {
    let bytes = fs::read(fixtures().join("photos/cat.jpg")).expect("photo");
    for part in [0.1, 0.5, 0.9, 0.99] {
        let cut = &bytes[..(bytes.len() as f64 * part) as usize];
        assert_eq!(
            decode_and_preprocess(cut, &input(false)).err(),
            Some("image_undecodable"),
            "{part}"
        );
    }
    let mut trailer = bytes.clone();
    trailer.extend_from_slice(b"SEFT trailer of a phone");
    assert!(
        decode_and_preprocess(&trailer, &input(false)).is_ok(),
        "bytes after the picture are ignored"
    );
}

#[test]
fn the_header_is_refused_before_memory_is_taken() {
    let bytes = fs::read(fixtures().join("photos/cat.jpg")).expect("photo");
    let small = DecodeLimits {
        side_px_max: 100,
        ..limits()
    };
    let error = decode(&bytes, &small, &|_, _| 1.0, Vec::new()).expect_err("too wide");
    assert_eq!(error.code.as_str(), "image_too_many_pixels");
    let poor = DecodeLimits {
        bytes_max: 1000,
        ..limits()
    };
    for name in [
        "upright.jpg",
        "progressive.jpg",
        "rgb8.png",
        "lossless.webp",
        "animated.gif",
    ] {
        let error = decode(&read(name), &poor, &|_, _| 1.0, Vec::new()).expect_err(name);
        assert_eq!(error.code.as_str(), "image_too_many_pixels", "{name}");
    }
}

#[test]
fn memory_of_an_earlier_image_does_not_change_the_pixels() {
    let photos = fixtures().join("photos");
    let photo = fs::read(photos.join("cat.jpg")).expect("a photo");
    for left in [vec![], vec![7; 100], vec![7; 5_000_000]] {
        let image = |memory| decode(&photo, &limits(), &|_, _| 1.0, memory).expect("decodes");
        assert_eq!(image(left), image(Vec::new()));
    }
}
