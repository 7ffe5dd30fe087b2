//! Resizes a part of an upright image with the filters of Pillow. Pure.
//!
//! The worker preprocesses by these functions. They are here because this crate is fully optimized and `worker` is not: the
//! generic code of `fast_image_resize` is compiled with its caller (docs/adr/0001-one-build.md).

mod box_filter;

use fast_image_resize::{
    FilterType, ImageBufferError, PixelType, ResizeAlg, ResizeError, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use image::RgbImage;

pub use self::box_filter::box_average;

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

/// A rectangle in pixels; the sides may be fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// A resize that cannot be done, like one to a side of 0 pixels.
#[derive(Debug, thiserror::Error)]
pub enum Impossible {
    #[error(transparent)]
    Image(#[from] ImageBufferError),
    #[error(transparent)]
    Resize(#[from] ResizeError),
}

/// The largest reach of a filter, in pixels of the smaller image: that of Lanczos.
const REACH: f64 = 3.0;
/// The least side of a part, in pixels. Below it, `fast_image_resize` leaves the result black.
const SIDE_MIN: f64 = 1e-3;

/// Resizes `part` of an image to `width` × `height` pixels: RGB, 3 bytes each, row by row.
///
/// First across, then down, as Pillow does. The pixels between the two passes are rounded and clipped to bytes, so the
/// order shows: the other order differs by up to 20 of 255 where a cubic filter overshoots at a sharp edge. One call of
/// `fast_image_resize` for both passes takes the other order.
///
/// # Errors
/// [`Impossible`]
pub fn resample(
    resizer: &mut Resizer,
    image: RgbView<'_>,
    part: Region,
    (width, height): (u32, u32),
    filter: FilterType,
) -> Result<Vec<u8>, Impossible> {
    let (left, part_width) = at_least_min(part.left, part.width, image.width);
    let (top, part_height) = at_least_min(part.top, part.height, image.height);
    // The rows that the second pass reads.
    let reach = REACH * (part_height / f64::from(height)).max(1.0) + 1.0;
    let first = (top - reach).floor().max(0.0);
    let end = (top + part_height + reach).ceil();
    let rows = end.min(f64::from(image.height)) - first;
    let options = |left, top, width, height| {
        ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(filter))
            .crop(left, top, width, height)
            .use_alpha(false)
    };
    let source = ImageRef::new(image.width, image.height, image.rgb, PixelType::U8x3)?;
    let mut across = Image::new(width, rows as u32, PixelType::U8x3);
    let all_rows = options(left, first, part_width, rows);
    resizer.resize(&source, &mut across, &all_rows)?;
    let mut output = Image::new(width, height, PixelType::U8x3);
    let top = top - first;
    let part_height = part_height.min(rows - top);
    let all_columns = options(0.0, top, f64::from(width), part_height);
    resizer.resize(&across, &mut output, &all_columns)?;
    Ok(output.into_vec())
}

/// A part of at least [`SIDE_MIN`], within the side of the image.
fn at_least_min(start: f64, length: f64, side: u32) -> (f64, f64) {
    let length = length.max(SIDE_MIN);
    (start.min(f64::from(side) - length), length)
}

/// One axis of a resize that counts its pixels from the first one of the uncropped result.
#[derive(Debug, Clone, Copy)]
pub struct ResizeAxis {
    /// Where the resized pixels start, in pixels of the image.
    pub start: f64,
    /// Pixels of the image for one resized pixel.
    pub scale: f64,
    /// Resized pixels that are cut off before the kept pixels.
    pub cropped: u32,
    /// Resized pixels that are kept.
    pub kept: u32,
    /// Side of the image.
    pub image: u32,
}

impl ResizeAxis {
    /// The pixel of the image for each kept pixel. Adds up the position as Pillow does: a multiplication would round
    /// elsewhere, and take the other of two pixels that are equally near.
    fn pixels(self) -> Vec<usize> {
        let mut at = self.start + self.scale * 0.5;
        for _ in 0..self.cropped {
            at += self.scale;
        }
        let last = self.image.saturating_sub(1) as usize;
        let pixels = (0..self.kept).map(|_| {
            let pixel = (at as usize).min(last);
            at += self.scale;
            pixel
        });
        pixels.collect()
    }
}

/// Takes the nearest pixel for each pixel of the result.
pub fn nearest(image: RgbView<'_>, across: ResizeAxis, down: ResizeAxis) -> Vec<u8> {
    let columns = across.pixels();
    let row_bytes = image.width as usize * 3;
    let mut resized = Vec::with_capacity(columns.len() * down.kept as usize * 3);
    for row in down.pixels() {
        let row = &image.rgb[row * row_bytes..][..row_bytes];
        for column in &columns {
            resized.extend_from_slice(&row[column * 3..][..3]);
        }
    }
    resized
}
