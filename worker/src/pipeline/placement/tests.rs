#![allow(clippy::float_cmp, reason = "halves and quarters: exact")]

use fast_image_resize::Resizer;
use image::{Rgb, RgbImage};
use jobs::manifest::InputSpec;
use proptest::prelude::*;
use serde_json::json;

use super::{Placement, Region};
use crate::pipeline::preprocess::preprocess;

pub(super) fn input(width: u32, height: u32, resize: &str) -> InputSpec {
    serde_json::from_value(json!({
        "width": width, "height": height, "resize": resize, "crop_ratio": 0.875,
        "mean": [127, 127, 127], "std": [128, 128, 128]
    }))
    .expect("input")
}

#[test]
fn a_center_crop_keeps_its_ratio_of_the_shorter_side() {
    let placement = Placement::of(&input(224, 224, "center_crop"), 640, 480);
    let source = Region {
        left: 110.0,
        top: 30.0,
        width: 420.0,
        height: 420.0,
    };
    assert_eq!(placement.source, source);
    let tall = Placement::of(&input(100, 200, "center_crop"), 400, 400).source;
    assert_eq!((tall.width, tall.height), (175.0, 350.0));
}

#[test]
fn the_shrink_is_the_scale_that_the_input_needs() {
    let shrink = |resize, side, width, height| {
        Placement::of(&input(side, side, resize), width, height).shrink()
    };
    assert!((shrink("center_crop", 224, 2560, 1600) - 0.16).abs() < 1e-9);
    assert!(shrink("center_crop", 224, 200, 200) > 1.0, "enlarged");
    assert!((shrink("stretch", 100, 200, 1000) - 0.5).abs() < 1e-9);
    assert!((shrink("letterbox", 100, 200, 1000) - 0.1).abs() < 1e-9);
}

#[test]
fn the_corners_of_an_image_are_at_the_corners_inside_of_the_padding() {
    let boxed = Placement::of(&input(100, 100, "letterbox"), 400, 200);
    assert_eq!(boxed.to_input([0.0, 0.0]), [0.0, 25.0]);
    assert_eq!(boxed.to_input([400.0, 200.0]), [100.0, 75.0]);
    assert_eq!(boxed.to_image([50.0, 50.0]), [200.0, 100.0]);
    assert_eq!(
        boxed.to_image([0.0, 0.0]),
        [0.0, -100.0],
        "out of the image"
    );
    let smaller = boxed.source_in(50, 25);
    assert_eq!((smaller.width, smaller.height), (50.0, 25.0));
}

/// Halves go to the even number, as Python's `round` does it.
#[test]
fn a_letterbox_rounds_its_side_as_the_trainers_of_letterbox_models_do() {
    let width = |width| Placement::of(&input(640, 640, "letterbox"), width, 1280).width;
    assert_eq!([width(719), width(721), width(723)], [360, 360, 362]);
}

/// The image becomes 383 × 256 pixels. The crop keeps columns 80 to 303 and rows 16 to 239.
#[test]
fn a_crop_of_whole_pixels_is_mapped_back_to_the_image() {
    let placement = Placement::of(&shorter_side(256, 224), 640, 427);
    let near = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).abs() + (a[1] - b[1]).abs() < 1e-9;
    let corner = [80.0 * 640.0 / 383.0, 16.0 * 427.0 / 256.0];
    assert!(near(placement.to_image([0.0, 0.0]), corner));
    assert!(near(placement.to_input(corner), [0.0, 0.0]));
    let end = [304.0 * 640.0 / 383.0, 240.0 * 427.0 / 256.0];
    assert!(near(placement.to_image([224.0, 224.0]), end));
    let padded = Placement::of(&shorter_side(10, 20), 40, 20);
    assert!(near(padded.to_image([0.0, 5.0]), [0.0, 0.0]));
    assert!(near(padded.to_image([20.0, 15.0]), [40.0, 20.0]));
}

fn shorter_side(shorter_side: u32, crop: u32) -> InputSpec {
    serde_json::from_value(json!({
        "resize": {"shorter_side": shorter_side, "crop": crop}, "mean": [0, 0, 0], "std": [255, 255, 255]
    }))
    .expect("input")
}

fn ways() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("center_crop"),
        Just("stretch"),
        Just("letterbox"),
        Just("shorter_side")
    ]
}

/// An input of any way to resize. The crop is a square, and may be larger than the shorter side.
fn any_input(wide: u32, high: u32, resize: &str) -> InputSpec {
    match resize {
        "shorter_side" => shorter_side(high, wide),
        resize => input(wide, high, resize),
    }
}

proptest! {
    #[test]
    fn a_point_that_is_mapped_to_the_input_and_back_does_not_move(
        resize in ways(), wide in 1u32..2000, high in 1u32..2000,
        width in 1u32..12_000, height in 1u32..12_000, x in 0.0..1.0, y in 0.0..1.0,
    ) {
        let placement = Placement::of(&any_input(wide, high, resize), width, height);
        let point: [f64; 2] = [x * f64::from(width), y * f64::from(height)];
        let back = placement.to_image(placement.to_input(point));
        prop_assert!((back[0] - point[0]).abs() < 1e-6 && (back[1] - point[1]).abs() < 1e-6, "{back:?}");
    }

    #[test]
    fn the_content_is_within_the_input_and_its_source_within_the_image(
        resize in ways(), wide in 1u32..2000, high in 1u32..2000, width in 1u32..12_000, height in 1u32..12_000,
    ) {
        let Placement { source, left, top, width: across, height: down, .. } =
            Placement::of(&any_input(wide, high, resize), width, height);
        let [wide, high] = if resize == "shorter_side" { [wide; 2] } else { [wide, high] };
        prop_assert!(across >= 1 && down >= 1 && left + across <= wide && top + down <= high);
        prop_assert!(source.left >= 0.0 && source.left + source.width <= f64::from(width) + 1e-6);
        prop_assert!(source.top >= 0.0 && source.top + source.height <= f64::from(height) + 1e-6);
    }
}

/// The number of white pixels of a row or column; gray pixels count in part.
fn white(values: impl Iterator<Item = u8>) -> f64 {
    values.map(|value| f64::from(value) / 255.0).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The pixels of an edge and the formula for its points agree.
    #[test]
    fn an_edge_of_the_picture_is_where_its_points_are_mapped_to(
        resize in ways(), wide in 16u32..48, high in 16u32..48, width in 32u32..160, height in 32u32..160, part in 0.3..0.7,
    ) {
        let mut input = any_input(wide, high, resize);
        input.pad_color = [0, 0, 0];
        let (wide, high) = (input.width, input.height);
        let placement = Placement::of(&input, width, height);
        let Region { left, top, width: seen_width, height: seen_height } = placement.source;
        let (x, y) = ((left + seen_width * part) as u32, (top + seen_height * part) as u32);
        // White to the right of and below the edges.
        let image = RgbImage::from_fn(width, height, |column, row| {
            if column >= x && row >= y { Rgb([255; 3]) } else { Rgb([0; 3]) }
        });
        let pixels = preprocess(&mut Resizer::new(), &image, &input, &placement).expect("fits");
        let at = |column: u32, row: u32| pixels[((row * wide + column) * 3) as usize];
        let (last_column, last_row) = (placement.left + placement.width - 1, placement.top + placement.height - 1);
        let edge_x = f64::from(last_column + 1) - white((0..wide).map(|column| at(column, last_row)));
        let edge_y = f64::from(last_row + 1) - white((0..high).map(|row| at(last_column, row)));
        let expected = placement.to_input([x.into(), y.into()]);
        prop_assert!((edge_x - expected[0]).abs() < 1.0, "x: {edge_x} for {expected:?}, {placement:?}");
        prop_assert!((edge_y - expected[1]).abs() < 1.0, "y: {edge_y} for {expected:?}, {placement:?}");
    }
}
