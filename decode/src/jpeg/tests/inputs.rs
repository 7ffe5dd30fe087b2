//! JPEGs of unusual kinds look like their references, at every scale.

use std::path::PathBuf;

use image::{RgbImage, imageops::FilterType};
use serde_json::Value;

use super::{decode_scaled, difference, read};

fn square(image: &RgbImage) -> RgbImage {
    image::imageops::resize(image, 56, 56, FilterType::Triangle)
}

/// Decoded at the scale, made square, and compared with its reference at full size.
fn difference_from(reference: &str, bytes: &[u8], scale: f64) -> f64 {
    let reference = image::open(
        PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/inputs"
        ))
        .join(reference),
    );
    let (pixels, _) = decode_scaled(bytes, scale).expect("decodes");
    difference(
        &square(&pixels),
        &square(&reference.expect("a reference").into_rgb8()),
    )
}

#[test]
fn every_jpeg_of_the_inputs_is_as_its_manifest_says_at_every_scale() {
    let manifest: Value = serde_json::from_slice(&read("inputs/manifest.json")).expect("JSON");
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in manifest["files"].as_array().expect("files") {
        let name = file["file"].as_str().expect("a name");
        let is_ok = file["expectation"]["outcome"] == "succeeds";
        // Orientation is the business of the caller.
        if !name.starts_with("jpeg-") || !is_ok {
            continue;
        }
        count += 1;
        let bytes = read(&format!("inputs/{name}"));
        let reference = file["reference"].as_str().unwrap_or("ref-cat.png");
        for scale in [0.125, 0.25, 0.5, 1.0] {
            let difference = difference_from(reference, &bytes, scale);
            if difference > 4.0 {
                wrong.push(format!(
                    "{name} at {scale}: {difference:.2} from {reference}"
                ));
            }
        }
    }
    assert!(count >= 27, "{count}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lossless_gray_is_decoded_at_full_size() {
    let (pixels, warnings) =
        decode_scaled(&read("jpeg/lossless-gray.jpg"), 0.125).expect("decodes");
    assert_eq!((pixels.dimensions(), warnings), ((113, 75), vec![]));
    assert!(pixels.pixels().all(|pixel| pixel.0 == [pixel.0[0]; 3]));
}
