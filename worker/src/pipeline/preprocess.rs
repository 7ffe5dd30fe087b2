//! Turns an upright image into the input of a model. Pure: no I/O, no clock, no device.

use decode::resample::{Impossible, ResizeAxis, RgbView, box_average, nearest, resample};
use fast_image_resize::{FilterType, Resizer};
use jobs::{
    ProblemCode,
    job::StageError,
    manifest::{InputSpec, Interpolation, Resize, ResizeFilter},
};

use super::placement::{Placement, Region, Side};

/// The smallest scale of an upright image at which the input loses no detail; 1 or more if the image is enlarged.
pub fn shrink(input: &InputSpec, width: u32, height: u32) -> f64 {
    if input.full_decode {
        return 1.0;
    }
    Placement::of(input, width, height).shrink()
}

/// Resizes and crops an upright image to the input of a model.
///
/// - `image`: at full size, or a smaller copy from the decoder.
/// - `placement`: of the image at full size.
/// - Returns `u8[height, width, 3]` RGB, as described by [`InputSpec`]. The device normalizes it.
/// - Within 1 of 255 of Pillow before version 13 with the same filter and geometry, for an image at full size. `nearest` and
///   `box` are equal to Pillow's. With cubic filters and Lanczos a few pixels differ by 2.
/// - For EfficientNet-Lite this is its evaluation transform, `models/efficientnet-lite0/preprocess.py`.
///
/// # Errors
/// [`ProblemCode::ModelError`]: the geometry of the manifest is impossible.
pub fn preprocess<'a>(
    resizer: &mut Resizer,
    image: impl Into<RgbView<'a>>,
    input: &InputSpec,
    placement: &Placement,
) -> Result<Vec<u8>, StageError> {
    let image = image.into();
    let impossible = |cause: Impossible| {
        StageError::new(
            ProblemCode::ModelError,
            "the model's input cannot be made from this image",
        )
        .caused_by(cause)
    };
    let part = placement.source_in(image.width, image.height);
    let size = (placement.width, placement.height);
    let axes = || axes(image, input, placement, part);
    let content = match filter(input) {
        Filter::Convolution(filter) => {
            resample(resizer, image, part, size, filter).map_err(impossible)?
        }
        Filter::Box => {
            let [across, down] = axes();
            box_average(image, across, down)
        }
        Filter::Nearest => {
            let [across, down] = axes();
            nearest(image, across, down)
        }
    };
    if size == (input.width, input.height) {
        return Ok(content);
    }
    let pad_color = match input.resize {
        Resize::ShorterSide(_) => [0; 3], // as torchvision's `CenterCrop`
        _ => input.pad_color,
    };
    let row = input.width as usize * 3;
    let mut boxed = pad_color.repeat((input.width * input.height) as usize);
    let left = placement.left as usize * 3;
    let rows = boxed.chunks_exact_mut(row).skip(placement.top as usize);
    for (into, from) in rows.zip(content.chunks_exact(placement.width as usize * 3)) {
        into[left..left + from.len()].copy_from_slice(from);
    }
    Ok(boxed)
}

enum Filter {
    Nearest,
    Box,
    Convolution(FilterType),
}

fn filter(input: &InputSpec) -> Filter {
    Filter::Convolution(match (input.resize, input.filter) {
        (Resize::ShorterSide(rule), _) => match rule.interpolation {
            Interpolation::Nearest => return Filter::Nearest,
            Interpolation::Box => return Filter::Box,
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Hamming => FilterType::Hamming,
            Interpolation::Bicubic => FilterType::CatmullRom,
            Interpolation::Lanczos => FilterType::Lanczos3,
        },
        (_, ResizeFilter::Nearest) => return Filter::Nearest,
        (_, ResizeFilter::Bilinear) => FilterType::Bilinear,
        (_, ResizeFilter::CatmullRom) => FilterType::CatmullRom,
        (_, ResizeFilter::Lanczos3) => FilterType::Lanczos3,
    })
}

/// The two axes, for the filters that count from the uncropped result.
fn axes(
    image: RgbView<'_>,
    input: &InputSpec,
    placement: &Placement,
    part: Region,
) -> [ResizeAxis; 2] {
    if let Resize::ShorterSide(rule) = input.resize {
        // The positions are counted from the first pixel of the resized image, before the crop.
        let sides = Side::both(rule, placement.image_width, placement.image_height);
        let axis = |side: Side, image: u32| ResizeAxis {
            start: 0.0,
            scale: f64::from(image) / f64::from(side.resized),
            cropped: side.cropped,
            kept: side.kept,
            image,
        };
        return [axis(sides[0], image.width), axis(sides[1], image.height)];
    }
    let axis = |start: f64, length: f64, kept: u32, image: u32| ResizeAxis {
        start,
        scale: length / f64::from(kept),
        cropped: 0,
        kept,
        image,
    };
    [
        axis(part.left, part.width, placement.width, image.width),
        axis(part.top, part.height, placement.height, image.height),
    ]
}

#[cfg(test)]
mod against_pillow;
#[cfg(test)]
#[allow(clippy::float_cmp, reason = "sixteenths: exact")]
mod tests {
    use fast_image_resize::Resizer;
    use image::{Rgb, RgbImage};
    use jobs::manifest::{InputSpec, Resize};
    use proptest::prelude::*;
    use serde_json::json;

    use super::{preprocess, shrink};
    use crate::pipeline::Placement;

    fn input(width: u32, height: u32, resize: &str) -> InputSpec {
        serde_json::from_value(json!({
            "width": width, "height": height, "resize": resize, "crop_ratio": 0.875,
            "mean": [127, 127, 127], "std": [128, 128, 128]
        }))
        .expect("input")
    }

    fn shorter_side(shorter_side: u32, crop: u32, interpolation: &str) -> InputSpec {
        serde_json::from_value(json!({
            "resize": {"shorter_side": shorter_side, "crop": crop, "interpolation": interpolation},
            "mean": [0, 0, 0], "std": [255, 255, 255]
        }))
        .expect("input")
    }

    fn preprocessed(image: &RgbImage, input: &InputSpec) -> Vec<u8> {
        let placement = Placement::of(input, image.width(), image.height());
        preprocess(&mut Resizer::new(), image, input, &placement).expect("fits")
    }

    #[test]
    fn a_manifest_may_ask_for_all_pixels_of_a_jpeg() {
        let mut full = input(224, 224, "center_crop");
        assert!(shrink(&full, 2560, 1600) < 0.2);
        full.full_decode = true;
        assert!((shrink(&full, 2560, 1600) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn every_resize_mode_fills_the_input_from_images_of_any_shape() {
        let mut inputs = ["center_crop", "stretch", "letterbox"]
            .map(|resize| input(32, 16, resize))
            .to_vec();
        for interpolation in [
            "nearest", "box", "bilinear", "hamming", "bicubic", "lanczos",
        ] {
            inputs.push(shorter_side(20, 16, interpolation));
        }
        for input in inputs {
            for (width, height) in [(1, 1), (1, 12_000), (12_000, 1), (640, 480), (7, 3)] {
                let image = RgbImage::from_pixel(width, height, Rgb([200, 10, 60]));
                let pixels = preprocessed(&image, &input);
                assert_eq!(pixels.len(), (input.width * input.height * 3) as usize);
                if input.resize != Resize::Letterbox {
                    assert!(pixels.chunks_exact(3).all(|pixel| pixel == [200, 10, 60]));
                }
            }
        }
    }

    /// 15.75 of 18 pixels become 21: the first one is exactly on pixel 1 of the source.
    #[test]
    fn an_enlarged_picture_may_begin_exactly_on_a_pixel_of_the_image() {
        let image = RgbImage::from_pixel(18, 18, Rgb([200, 10, 60]));
        let input = input(21, 21, "center_crop");
        let placement = Placement::of(&input, 18, 18);
        assert_eq!(placement.source.left + 0.75 / 2.0 - 0.5, 1.0, "on a pixel");
        let pixels = preprocessed(&image, &input);
        assert!(pixels.chunks_exact(3).all(|pixel| pixel == [200, 10, 60]));
    }

    proptest! {
        /// With these sizes `fast_image_resize` read out of bounds when one call did both passes.
        #[test]
        fn a_flat_image_stays_flat_whatever_its_size(
            width in 1u32..40, height in 1u32..40, side in 1u32..48, crop in 1u32..48,
            filter in prop_oneof![Just("bilinear"), Just("catmull_rom"), Just("lanczos3")],
            interpolation in prop_oneof![Just("hamming"), Just("bicubic"), Just("lanczos")],
        ) {
            let image = RgbImage::from_pixel(width, height, Rgb([200, 10, 60]));
            let mut cropped = input(side, crop, "center_crop");
            cropped.filter = serde_json::from_value(json!(filter)).expect("a filter");
            for input in [cropped, shorter_side(side.max(crop), crop, interpolation)] {
                let pixels = preprocessed(&image, &input);
                prop_assert!(pixels.chunks_exact(3).all(|pixel| pixel == [200, 10, 60]));
            }
        }
    }

    /// A JPEG at a smaller DCT scale must still cover the shorter side, not only the crop.
    #[test]
    fn the_resize_to_a_shorter_side_bounds_the_scale_of_a_jpeg() {
        let input = shorter_side(256, 224, "bilinear");
        let scale = shrink(&input, 2048, 1024);
        assert!((scale - 0.25).abs() < 1e-9, "{scale}");
        assert!((shrink(&input, 1024, 2048) - 0.25).abs() < 1e-9);
    }

    /// At half its size, an image has the crop that it has at full size.
    #[test]
    fn a_smaller_copy_of_an_image_has_the_crop_of_the_image() {
        let input = shorter_side(32, 20, "bilinear");
        let placement = Placement::of(&input, 200, 100);
        let half = |width: u32, height: u32, edge: u32| {
            RgbImage::from_fn(width, height, |x, _| {
                Rgb([if x < edge { 0 } else { 255 }; 3])
            })
        };
        let of = |image: &RgbImage| {
            preprocess(&mut Resizer::new(), image, &input, &placement).expect("fits")
        };
        let (whole, copy) = (of(&half(200, 100, 90)), of(&half(100, 50, 45)));
        let apart = whole.iter().zip(&copy).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart < Some(40), "{apart:?}");
    }

    #[test]
    fn a_crop_beyond_the_resized_image_has_black_bars() {
        let mut input = shorter_side(10, 20, "bilinear");
        let image = RgbImage::from_pixel(40, 20, Rgb([255; 3]));
        let pixels = preprocessed(&image, &input);
        let rows: Vec<_> = pixels.chunks_exact(20 * 3).map(|row| row[0]).collect();
        assert_eq!(rows, [[0; 5], [255; 5], [255; 5], [0; 5]].concat());
        input.pad_color = [9; 3];
        assert_eq!(preprocessed(&image, &input)[0], 0, "of `letterbox` only");
    }

    #[test]
    fn a_letterbox_has_bars_of_its_color_on_both_sides() {
        let image = RgbImage::from_pixel(10, 20, Rgb([255, 0, 0]));
        for color in [[114; 3], [1, 2, 3]] {
            let mut input = input(20, 20, "letterbox");
            if color != [114; 3] {
                input.pad_color = color;
            }
            let pixels = preprocessed(&image, &input);
            let middle = &pixels.as_chunks::<3>().0[20 * 10..20 * 11];
            let mut expected = [color; 20];
            expected[5..15].fill([255, 0, 0]);
            assert_eq!(middle, expected);
        }
    }

    #[test]
    fn a_smaller_copy_of_an_image_is_placed_like_the_image() {
        let input = input(20, 20, "letterbox");
        let placement = Placement::of(&input, 803, 401);
        let whole = RgbImage::from_pixel(803, 401, Rgb([255, 0, 0]));
        let copy = RgbImage::from_pixel(101, 51, Rgb([255, 0, 0]));
        let of_whole = preprocess(&mut Resizer::new(), &whole, &input, &placement);
        let of_copy = preprocess(&mut Resizer::new(), &copy, &input, &placement);
        assert_eq!(of_whole.expect("fits"), of_copy.expect("fits"));
    }
}
