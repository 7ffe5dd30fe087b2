//! Decodes the images of `tests/fixtures`: a good image looks like its twin, and a bad one fails with its code.

mod formats;

use std::{fs, io::Cursor, path::PathBuf};

use image::{RgbImage, imageops::FilterType};
use serde_json::Value;

use crate::{
    Color, Decoded, Format, Header, Limits, Reason, Refusal, Request, decode, twins::FULL_SIZE,
};

/// Largest mean difference of a channel between twins, of 255. Measured: up to 2.6 (EXIF rotations, CMYK JPEG).
const TWIN_DIFFERENCE_MAX: f64 = 4.0;

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"))
}

fn limits() -> Limits {
    Limits {
        pixels_max: 40_000_000,
        side_px_max: 12_000,
        bytes_max: 512 << 20,
        formats: vec![Format::Jpeg, Format::Png, Format::Webp, Format::Gif],
    }
}

/// A side of the square that pictures are compared at, in pixels.
const COMPARED_PX: u32 = 112;

/// Decodes at the scale that a model with an input of 224 pixels needs; or at full size.
fn decode_for_model(bytes: &[u8], is_full: bool) -> Result<Decoded, Refusal> {
    let limits = limits();
    let header = Header::read(Cursor::new(bytes), &limits)?;
    let side = f64::from(header.width.min(header.height));
    let request = Request {
        scale_min: if is_full { 1.0 } else { 224.0 / side },
        color: Color::Srgb,
    };
    decode(bytes, &header, request, &limits, Vec::new())
}

fn reason(bytes: &[u8]) -> Option<&'static str> {
    decode_for_model(bytes, false)
        .err()
        .map(|refusal| code(refusal.reason))
}

/// The code of the problem that a client sees.
fn code(reason: Reason) -> &'static str {
    match reason {
        Reason::UnsupportedFormat => "unsupported_media_type",
        Reason::TooManyPixels => "image_too_many_pixels",
        Reason::Undecodable => "image_undecodable",
    }
}

/// The picture as a small square: pictures of different sizes can be compared.
fn square(image: &RgbImage) -> RgbImage {
    image::imageops::resize(image, COMPARED_PX, COMPARED_PX, FilterType::Triangle)
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
    let mut wrong = Vec::new();
    for file in manifest["files"].as_array().expect("files") {
        let name = file["file"].as_str().expect("name");
        let code_expected = file["job"]["code"]
            .as_str()
            .or(file["post"]["code"].as_str());
        // The API may refuse a file for other reasons. The decoder must agree with its code in all other cases.
        let code_expected = code_expected.map(|code| {
            if code == "invalid_request" {
                "unsupported_media_type"
            } else {
                code
            }
        });
        let decoded = decode_for_model(&read(name), false);
        let refused = decoded.as_ref().err().map(|refusal| code(refusal.reason));
        if refused != code_expected {
            wrong.push(format!(
                "{name}: expected {code_expected:?}, came to {refused:?}"
            ));
        } else if let (Ok(decoded), Some(twin)) = (decoded, file["job"]["twin"].as_str()) {
            let twin = decode_for_model(&read(twin), false).expect("a twin decodes");
            let difference = difference(&square(&decoded.pixels), &square(&twin.pixels));
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
        let square = |is_full| square(&decode_for_model(&bytes, is_full).expect("decodes").pixels);
        let difference = difference(&square(false), &square(true));
        assert!(difference < 4.0, "{photo}: {difference:.2}");
    }
}

#[test]
fn a_cut_photo_is_refused_wherever_it_is_cut() {
    let bytes = fs::read(fixtures().join("photos/cat.jpg")).expect("photo");
    for part in [0.1, 0.5, 0.9, 0.99] {
        let cut = &bytes[..(bytes.len() as f64 * part) as usize];
        assert_eq!(reason(cut), Some("image_undecodable"), "{part}");
    }
    let mut trailer = bytes.clone();
    trailer.extend_from_slice(b"SEFT trailer of a phone");
    assert_eq!(
        reason(&trailer),
        None,
        "bytes after the picture are ignored"
    );
}

#[test]
fn the_header_is_refused_before_memory_is_taken() {
    let bytes = fs::read(fixtures().join("photos/cat.jpg")).expect("photo");
    let refused = |bytes: &[u8], limits: &Limits| {
        let header = Header::read(Cursor::new(bytes), limits).expect("a header");
        decode(bytes, &header, FULL_SIZE, limits, Vec::new())
            .expect_err("refused")
            .reason
    };
    let small = Limits {
        side_px_max: 100,
        ..limits()
    };
    assert_eq!(refused(&bytes, &small), Reason::TooManyPixels);
    let poor = Limits {
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
        assert_eq!(refused(&read(name), &poor), Reason::TooManyPixels, "{name}");
    }
}

#[test]
fn memory_of_an_earlier_image_does_not_change_the_pixels() {
    let photo = fs::read(fixtures().join("photos/cat.jpg")).expect("a photo");
    let header = Header::read(Cursor::new(&photo), &limits()).expect("a header");
    for left in [vec![], vec![7; 100], vec![7; 5_000_000]] {
        let image =
            |memory| decode(&photo, &header, FULL_SIZE, &limits(), memory).expect("decodes");
        assert_eq!(image(left), image(Vec::new()));
    }
}
