//! From an upright image to the model's input. Pure: no I/O, no clock, no device.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::RgbImage;
use jobs::{
    ProblemCode,
    job::StageError,
    manifest::{Filter, InputSpec, Resize},
};

/// Bars of a letterbox: the gray that the detectors which use one were trained with.
const BAR: u8 = 114;

/// A rectangle of the image, in fractions of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Region {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// Which part of the image becomes which part of the input.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Geometry {
    source: Region,
    /// Whole pixels.
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Geometry {
    fn of(input: &InputSpec, width: u32, height: u32) -> Self {
        let (full_width, full_height) = (f64::from(width), f64::from(height));
        let (wide, high) = (f64::from(input.width), f64::from(input.height));
        let whole = Region {
            left: 0.0,
            top: 0.0,
            width: full_width,
            height: full_height,
        };
        match input.resize {
            Resize::Stretch => Self::filling(input, whole),
            Resize::CenterCrop => {
                let unit = input.crop_ratio * (full_width / wide).min(full_height / high);
                let (width, height) = (unit * wide, unit * high);
                Self::filling(
                    input,
                    Region {
                        left: (full_width - width) / 2.0,
                        top: (full_height - height) / 2.0,
                        width,
                        height,
                    },
                )
            }
            Resize::Letterbox => {
                let scale = (wide / full_width).min(high / full_height);
                let width = ((full_width * scale).round() as u32).clamp(1, input.width);
                let height = ((full_height * scale).round() as u32).clamp(1, input.height);
                Self {
                    source: whole,
                    left: (input.width - width) / 2,
                    top: (input.height - height) / 2,
                    width,
                    height,
                }
            }
        }
    }

    fn filling(input: &InputSpec, source: Region) -> Self {
        Self {
            source,
            left: 0,
            top: 0,
            width: input.width,
            height: input.height,
        }
    }
}

/// How much of an upright image must be left for the input to lose nothing: 1 and more when it must be enlarged.
pub fn shrink(input: &InputSpec, width: u32, height: u32) -> f64 {
    if input.full_decode {
        return 1.0;
    }
    let geometry = Geometry::of(input, width, height);
    let across = f64::from(geometry.width) / geometry.source.width;
    across.max(f64::from(geometry.height) / geometry.source.height)
}

/// Resizes and crops one upright image to the model's input.
///
/// - Answers `u8[height, width, 3]` RGB, as [`InputSpec`] says; normalizing happens on the device.
/// - Source of the EfficientNet-Lite form: its evaluation transform, `models/efficientnet-lite0/preprocess.py`.
///
/// # Errors
/// [`ProblemCode::ModelError`]: the manifest's geometry is impossible.
pub fn preprocess(
    resizer: &mut Resizer,
    image: &RgbImage,
    input: &InputSpec,
) -> Result<Vec<u8>, StageError> {
    let geometry = Geometry::of(input, image.width(), image.height());
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
    } = geometry.source;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .crop(left, top, width, height)
        .use_alpha(false);
    let source = ImageRef::new(image.width(), image.height(), image, PixelType::U8x3)
        .map_err(|error| impossible(error.into()))?;
    let mut output = Image::new(geometry.width, geometry.height, PixelType::U8x3);
    resizer
        .resize(&source, &mut output, &options)
        .map_err(|error| impossible(error.into()))?;
    let content = output.into_vec();
    if (geometry.width, geometry.height) == (input.width, input.height) {
        return Ok(content);
    }
    let row = input.width as usize * 3;
    let mut boxed = vec![BAR; row * input.height as usize];
    let left = geometry.left as usize * 3;
    let rows = boxed.chunks_exact_mut(row).skip(geometry.top as usize);
    for (into, from) in rows.zip(content.chunks_exact(geometry.width as usize * 3)) {
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

    use super::{BAR, Geometry, Region, preprocess, shrink};

    fn input(width: u32, height: u32, resize: &str) -> InputSpec {
        serde_json::from_value(json!({
            "width": width, "height": height, "resize": resize, "crop_ratio": 0.875,
            "mean": [127, 127, 127], "std": [128, 128, 128]
        }))
        .expect("input")
    }

    #[test]
    fn a_center_crop_keeps_its_part_of_the_shorter_side() {
        let geometry = Geometry::of(&input(224, 224, "center_crop"), 640, 480);
        let source = Region {
            left: 110.0,
            top: 30.0,
            width: 420.0,
            height: 420.0,
        };
        assert_eq!(geometry.source, source);
        let tall = Geometry::of(&input(100, 200, "center_crop"), 400, 400).source;
        assert_eq!((tall.width, tall.height), (175.0, 350.0));
    }

    #[test]
    fn the_shrink_is_what_the_input_still_needs() {
        let crop = input(224, 224, "center_crop");
        assert!((shrink(&crop, 2560, 1600) - 0.16).abs() < 1e-9);
        assert!(shrink(&crop, 200, 200) > 1.0, "enlarged: nothing to spare");
        assert!((shrink(&input(100, 100, "stretch"), 200, 1000) - 0.5).abs() < 1e-9);
        assert!((shrink(&input(100, 100, "letterbox"), 200, 1000) - 0.1).abs() < 1e-9);
        let mut full = crop;
        full.full_decode = true;
        assert!((shrink(&full, 2560, 1600) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn every_way_fills_the_input_from_images_of_any_shape() {
        for resize in ["center_crop", "stretch", "letterbox"] {
            for (width, height) in [(1, 1), (1, 12_000), (12_000, 1), (640, 480), (7, 3)] {
                let image = RgbImage::from_pixel(width, height, Rgb([200, 10, 60]));
                let input = input(32, 16, resize);
                let pixels = preprocess(&mut Resizer::new(), &image, &input).expect("fits");
                assert_eq!(pixels.len(), 32 * 16 * 3);
                if input.resize != Resize::Letterbox {
                    assert!(pixels.chunks_exact(3).all(|pixel| pixel == [200, 10, 60]));
                }
            }
        }
    }

    #[test]
    fn a_letterbox_puts_bars_on_both_sides() {
        let image = RgbImage::from_pixel(10, 20, Rgb([255, 0, 0]));
        let pixels = preprocess(&mut Resizer::new(), &image, &input(20, 20, "letterbox"));
        let pixels = pixels.expect("fits");
        let middle_row: Vec<u8> = pixels[20 * 3 * 10..20 * 3 * 11]
            .iter()
            .step_by(3)
            .copied()
            .collect();
        let mut expected = [BAR; 20];
        expected[5..15].fill(255);
        assert_eq!(middle_row, expected);
    }
}
