//! From an upright image to the model's input. Pure: no I/O, no clock, no device.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::RgbImage;
use jobs::{
    ProblemCode,
    job::StageError,
    manifest::{InputSpec, ResizeFilter},
};

use super::placement::{Placement, Region};

/// How much of an upright image must be left for the input to lose nothing: 1 and more when it must be enlarged.
pub fn shrink(input: &InputSpec, width: u32, height: u32) -> f64 {
    if input.full_decode {
        return 1.0;
    }
    Placement::of(input, width, height).shrink()
}

/// Resizes and crops one upright image to the model's input.
///
/// - `image`: at full size, or the smaller copy that a decoder made of it.
/// - `placement`: of the image at full size.
/// - Answers `u8[height, width, 3]` RGB, as [`InputSpec`] says; normalizing happens on the device.
/// - Source of the EfficientNet-Lite form: its evaluation transform, `models/efficientnet-lite0/preprocess.py`.
///
/// # Errors
/// [`ProblemCode::ModelError`]: the manifest's geometry is impossible.
pub fn preprocess(
    resizer: &mut Resizer,
    image: &RgbImage,
    input: &InputSpec,
    placement: &Placement,
) -> Result<Vec<u8>, StageError> {
    let impossible = |cause: anyhow::Error| {
        StageError::new(
            ProblemCode::ModelError,
            "the model's input cannot be made from this image",
        )
        .caused_by(cause)
    };
    let filter = match input.filter {
        ResizeFilter::Bilinear => FilterType::Bilinear,
        ResizeFilter::CatmullRom => FilterType::CatmullRom,
        ResizeFilter::Lanczos3 => FilterType::Lanczos3,
    };
    let Region {
        left,
        top,
        width,
        height,
    } = placement.source_in(image.width(), image.height());
    let (left, width) = off_the_pixels(left, width, placement.width);
    let (top, height) = off_the_pixels(top, height, placement.height);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .crop(left, top, width, height)
        .use_alpha(false);
    let source = ImageRef::new(image.width(), image.height(), image, PixelType::U8x3)
        .map_err(|error| impossible(error.into()))?;
    let mut output = Image::new(placement.width, placement.height, PixelType::U8x3);
    resizer
        .resize(&source, &mut output, &options)
        .map_err(|error| impossible(error.into()))?;
    let content = output.into_vec();
    if (placement.width, placement.height) == (input.width, input.height) {
        return Ok(content);
    }
    let row = input.width as usize * 3;
    let mut boxed = input
        .pad_color
        .repeat((input.width * input.height) as usize);
    let left = placement.left as usize * 3;
    let rows = boxed.chunks_exact_mut(row).skip(placement.top as usize);
    for (into, from) in rows.zip(content.chunks_exact(placement.width as usize * 3)) {
        into[left..left + from.len()].copy_from_slice(from);
    }
    Ok(boxed)
}

/// One side of what is seen, moved by a hundred-thousandth of a pixel where the outermost pixel of an enlarged
/// picture falls exactly on a pixel of the image.
///
/// `fast_image_resize` 6.1 leaves out weights of zero at both ends, and believes that no pixel needs more of the image
/// than the first and the last. A cubic on a pixel of the image has one weight that is not zero, its neighbor four:
/// the crate then reads out of its buffer, and the process is gone. So no outermost weight may be zero.
fn off_the_pixels(mut start: f64, mut length: f64, pixels: u32) -> (f64, f64) {
    const STEP: f64 = 1e-5;
    const NEAR: f64 = 1e-6;
    const LEAST: f64 = 1e-3;
    let copied = length.to_bits() == f64::from(pixels).to_bits() && start.fract() == 0.0;
    if copied {
        return (start, length);
    }
    let missing = (LEAST - length).max(0.0);
    (start, length) = (start - missing / 2.0, length + missing);
    loop {
        let scale = length / f64::from(pixels);
        let first = start + scale / 2.0 - 0.5;
        let last = start + length - scale / 2.0 - 0.5;
        let on_a_pixel = |at: f64| (at - at.round()).abs() < NEAR;
        if scale > 1.0 + NEAR || !(on_a_pixel(first) || on_a_pixel(last)) {
            return (start, length);
        }
        // Within what was seen; both ends move, however few pixels there are.
        start += STEP;
        length -= 3.0 * STEP;
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "sixteenths: exact")]
mod tests {
    use fast_image_resize::Resizer;
    use image::{Rgb, RgbImage};
    use jobs::manifest::{InputSpec, Resize};
    use proptest::prelude::*;
    use serde_json::json;

    use super::{off_the_pixels, preprocess, shrink};
    use crate::pipeline::Placement;

    fn input(width: u32, height: u32, resize: &str) -> InputSpec {
        serde_json::from_value(json!({
            "width": width, "height": height, "resize": resize, "crop_ratio": 0.875,
            "mean": [127, 127, 127], "std": [128, 128, 128]
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
    fn every_way_fills_the_input_from_images_of_any_shape() {
        for resize in ["center_crop", "stretch", "letterbox"] {
            for (width, height) in [(1, 1), (1, 12_000), (12_000, 1), (640, 480), (7, 3)] {
                let image = RgbImage::from_pixel(width, height, Rgb([200, 10, 60]));
                let input = input(32, 16, resize);
                let pixels = preprocessed(&image, &input);
                assert_eq!(pixels.len(), 32 * 16 * 3);
                if input.resize != Resize::Letterbox {
                    assert!(pixels.chunks_exact(3).all(|pixel| pixel == [200, 10, 60]));
                }
            }
        }
    }

    /// 18 pixels, 15.75 of them seen, on 21: the first one falls on pixel 1 of the source.
    #[test]
    fn an_enlarged_picture_whose_first_pixel_is_one_of_the_image_is_made() {
        let image = RgbImage::from_pixel(18, 18, Rgb([200, 10, 60]));
        let input = input(21, 21, "center_crop");
        let placement = Placement::of(&input, 18, 18);
        assert_eq!(placement.source.left + 0.75 / 2.0 - 0.5, 1.0, "on a pixel");
        let pixels = preprocessed(&image, &input);
        assert!(pixels.chunks_exact(3).all(|pixel| pixel == [200, 10, 60]));
    }

    proptest! {
        /// No picture has its outermost pixels on pixels of the image, unless its pixels are the image's.
        #[test]
        fn what_is_seen_keeps_off_the_pixels_and_within_what_was_seen(
            pixels in 1u32..64, steps in 1u32..4096, from in 16u32..4096, part in prop_oneof![Just(16), Just(1 << 24)],
        ) {
            // Sixteenths, as crops leave them, and hardly anything.
            let (start, length) = (f64::from(from) / 16.0, f64::from(steps) / f64::from(part));
            let (moved, left) = off_the_pixels(start, length, pixels);
            prop_assert!((moved - start).abs() < 1e-3 && (length - left).abs() < 1e-3);
            prop_assert!(length < 1e-3 || (moved >= start && moved + left <= start + length));
            let scale = left / f64::from(pixels);
            let ends = [moved + scale / 2.0 - 0.5, moved + left - scale / 2.0 - 0.5];
            let copied = left == f64::from(pixels) && moved.fract() == 0.0;
            prop_assert!(copied || scale > 1.0 || ends.iter().all(|end| (end - end.round()).abs() > 1e-7));
        }
    }

    #[test]
    fn a_letterbox_puts_bars_of_its_color_on_both_sides() {
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
