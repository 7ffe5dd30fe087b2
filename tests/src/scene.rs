//! Images that a test draws, with known content.

use std::io::Cursor;

use image::{
    DynamicImage, ImageEncoder, Rgb, RgbImage,
    codecs::{
        jpeg::JpegEncoder,
        png::{CompressionType, FilterType, PngEncoder},
    },
    metadata::Orientation,
};

/// A bright rectangle on a dark ground.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub width: u32,
    pub height: u32,
    /// Left, top, right, bottom of the rectangle, in pixels.
    pub bright: [u32; 4],
}

impl Scene {
    /// A scene whose rectangle is not centered.
    pub fn new(width: u32, height: u32) -> Self {
        let bright = [width / 4, height * 2 / 5, width * 3 / 5, height * 4 / 5];
        Self {
            width,
            height,
            bright,
        }
    }

    pub fn image(&self) -> RgbImage {
        let [left, top, right, bottom] = self.bright;
        RgbImage::from_fn(self.width, self.height, |x, y| {
            if (left..right).contains(&x) && (top..bottom).contains(&y) {
                Rgb([250; 3])
            } else {
                Rgb([10; 3])
            }
        })
    }
}

pub fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let encoder = PngEncoder::new(&mut bytes);
    let (width, height) = image.dimensions();
    let written = encoder.write_image(image, width, height, image::ExtendedColorType::Rgb8);
    written.unwrap();
    bytes.into_inner()
}

/// A JPEG with this EXIF orientation. A decoder that applies the orientation gets `image` again.
pub fn jpeg_with_orientation(image: &RgbImage, exif_orientation: u8) -> Vec<u8> {
    let upright = Orientation::from_exif(exif_orientation).unwrap();
    let back = match upright {
        Orientation::Rotate90 => Orientation::Rotate270,
        Orientation::Rotate270 => Orientation::Rotate90,
        other => other,
    };
    let mut stored = DynamicImage::ImageRgb8(image.clone());
    stored.apply_orientation(back);
    let stored = stored.into_rgb8();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif(exif_orientation)).unwrap();
    let (width, height) = stored.dimensions();
    let written = encoder.write_image(&stored, width, height, image::ExtendedColorType::Rgb8);
    written.unwrap();
    bytes
}

/// A transparent PNG with 16 bits for each of its four channels, and this EXIF orientation. The file is small at any size.
pub fn deep_png_with_orientation(width: u32, height: u32, exif_orientation: u8) -> Vec<u8> {
    let color = image::ExtendedColorType::Rgba16;
    let pixels = vec![0; 8 * width as usize * height as usize];
    let mut bytes = Vec::new();
    let (compression, filter) = (CompressionType::Fast, FilterType::NoFilter);
    let mut encoder = PngEncoder::new_with_quality(&mut bytes, compression, filter);
    encoder.set_exif_metadata(exif(exif_orientation)).unwrap();
    let written = encoder.write_image(&pixels, width, height, color);
    written.unwrap();
    bytes
}

/// EXIF data with one entry: the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif
}
