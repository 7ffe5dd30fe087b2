//! Turns an upright image into the input of a model. Pure: no I/O, no clock, no device.

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

/// Upright pixels: RGB, 3 bytes each, row by row.
#[derive(Debug, Clone, Copy)]
pub struct RgbView<'a> {
    pub width: u32,
    pub height: u32,
    pub rgb: &'a [u8],
}

impl<'a> From<&'a RgbImage> for RgbView<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self {
            width: image.width(),
            height: image.height(),
            rgb: image.as_raw(),
        }
    }
}

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
    } = placement.source_in(image.width, image.height);
    let (left, width) = avoid_exact_pixels(left, width, placement.width);
    let (top, height) = avoid_exact_pixels(top, height, placement.height);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .crop(left, top, width, height)
        .use_alpha(false);
    let source = ImageRef::new(image.width, image.height, image.rgb, PixelType::U8x3)
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

/// Moves one side of the source by a hundred-thousandth of a pixel if the outermost pixel of an enlarged picture would be
/// exactly on a pixel of the image.
///
/// `fast_image_resize` 6.1 removes zero weights at both ends, and assumes that no pixel has more weights than the first
/// and the last one. A cubic filter exactly on a pixel has one weight that is not zero, and its neighbor has four. Then
/// the crate reads out of its buffer, and the process crashes. So no outermost weight may be zero.
fn avoid_exact_pixels(mut start: f64, mut length: f64, pixels: u32) -> (f64, f64) {
    const STEP: f64 = 1e-5;
    const NEAR: f64 = 1e-6;
    const LEAST: f64 = 1e-3;
    let is_copy = length.to_bits() == f64::from(pixels).to_bits() && start.fract() == 0.0;
    if is_copy {
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
        // Both ends move inwards, so the result is within the source.
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

    use super::{avoid_exact_pixels, preprocess, shrink};
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
    fn every_resize_mode_fills_the_input_from_images_of_any_shape() {
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
        /// The outermost pixels of a picture are never exactly on pixels of the image, unless the image is copied.
        #[test]
        fn the_moved_source_avoids_exact_pixels_and_is_within_the_source(
            pixels in 1u32..64, steps in 1u32..4096, from in 16u32..4096, part in prop_oneof![Just(16), Just(1 << 24)],
        ) {
            // Sixteenths, as after crops, and tiny lengths.
            let (start, length) = (f64::from(from) / 16.0, f64::from(steps) / f64::from(part));
            let (moved, left) = avoid_exact_pixels(start, length, pixels);
            prop_assert!((moved - start).abs() < 1e-3 && (length - left).abs() < 1e-3);
            prop_assert!(length < 1e-3 || (moved >= start && moved + left <= start + length));
            let scale = left / f64::from(pixels);
            let ends = [moved + scale / 2.0 - 0.5, moved + left - scale / 2.0 - 0.5];
            let is_copy = left == f64::from(pixels) && moved.fract() == 0.0;
            prop_assert!(is_copy || scale > 1.0 || ends.iter().all(|end| (end - end.round()).abs() > 1e-7));
        }
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
