//! Compares the input of a model with the pictures of torchvision: `tests/fixtures/make_geometry.py` made them.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use decode::{Color, Format, Header, Limits, Request};
use fast_image_resize::Resizer;
use image::RgbImage;
use jobs::manifest::{InputSpec, Interpolation, Resize, ResizeFilter};
use serde_json::Value;

use super::{preprocess, shrink};
use crate::pipeline::Placement;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn limits() -> Limits {
    Limits {
        pixels_max: 40_000_000,
        side_px_max: 12_000,
        bytes_max: 512 << 20,
        formats: vec![Format::Jpeg, Format::Png, Format::Webp, Format::Gif],
    }
}

fn decoded(path: &Path) -> RgbImage {
    let bytes = std::fs::read(path).expect("a fixture");
    let limits = limits();
    let header = Header::read(Cursor::new(&bytes), &limits).expect("an image");
    let request = Request {
        scale_min: 1.0,
        // As `Image.open` of Pillow: colors are not converted.
        color: Color::Raw,
    };
    let decoded = decode::decode(&bytes, &header, request, &limits, Vec::new());
    decoded.expect("an image").pixels
}

/// The input of a model for an image at full size.
fn preprocessed(image: &RgbImage, input: &InputSpec) -> RgbImage {
    let (width, height) = image.dimensions();
    assert!(
        (shrink(input, width, height) - 1.0).abs() < 1e-9,
        "full_decode"
    );
    let placement = Placement::of(input, width, height);
    let pixels = preprocess(&mut Resizer::new(), image, input, &placement).expect("fits");
    RgbImage::from_raw(input.width, input.height, pixels).expect("an input")
}

/// The largest difference between the input and every n-th pixel of it.
fn difference(input: &RgbImage, expected: &RgbImage, every: u32) -> u8 {
    assert_eq!(input.width().div_ceil(every), expected.width());
    assert_eq!(input.height().div_ceil(every), expected.height());
    let pixels = expected.enumerate_pixels().flat_map(|(x, y, expected)| {
        let pixel = input.get_pixel(x * every, y * every);
        [0, 1, 2].map(|channel| pixel[channel].abs_diff(expected[channel]))
    });
    pixels.max().expect("pixels")
}

#[test]
fn the_input_is_within_1_of_255_of_torchvision() {
    let folder = fixtures();
    let cases = std::fs::read(folder.join("geometry/cases.json")).expect("a fixture");
    let cases: Vec<Value> = serde_json::from_slice(&cases).expect("cases");
    let mut strays = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let image = decoded(&folder.join(case["image"].as_str().expect("a path")));
        let input: InputSpec = serde_json::from_value(case["input"].clone()).expect("an input");
        let every = case["every"].as_u64().expect("a number") as u32;
        let expected = decoded(&folder.join(format!("geometry/{name}.png")));
        let difference = difference(&preprocessed(&image, &input), &expected, every);
        // The nearest pixel is this pixel or another one.
        let is_nearest = input.filter == ResizeFilter::Nearest
            || matches!(input.resize, Resize::ShorterSide(rule) if rule.interpolation == Interpolation::Nearest);
        if difference > u8::from(!is_nearest) {
            strays.push(format!("{name}: {difference}"));
        }
    }
    assert!(cases.len() > 30 && strays.is_empty(), "{strays:#?}");
}
