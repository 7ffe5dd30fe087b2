//! From an upright image to the model's input. Pure: no I/O, no clock, no device.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::RgbImage;
use jobs::{
    ProblemCode,
    job::StageError,
    manifest::{Filter, InputSpec},
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
        Filter::Bilinear => FilterType::Bilinear,
        Filter::CatmullRom => FilterType::CatmullRom,
        Filter::Lanczos3 => FilterType::Lanczos3,
    };
    let Region {
        left,
        top,
        width,
        height,
    } = placement.source_in(image.width(), image.height());
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

#[cfg(test)]
mod tests {
    use fast_image_resize::Resizer;
    use image::{Rgb, RgbImage};
    use jobs::manifest::{InputSpec, Resize};
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
