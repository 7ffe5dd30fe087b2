//! The placement of an image in the input of its model. Maps pixels to the input, and predictions back to the image. Pure.

mod shorter_side;

use jobs::manifest::{InputSpec, Resize};

pub use self::shorter_side::Side;
pub use decode::resample::Region;

/// The part of an upright image that the model sees, and its place in the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Sides of the upright image at full size, in pixels.
    pub image_width: u32,
    pub image_height: u32,
    /// The part of the image that the model sees.
    pub source: Region,
    /// The place of this part in the input, in whole pixels. The rest is padding.
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

impl Placement {
    pub fn of(input: &InputSpec, image_width: u32, image_height: u32) -> Self {
        let (full_width, full_height) = (f64::from(image_width), f64::from(image_height));
        let (wide, high) = (f64::from(input.width), f64::from(input.height));
        let filling = Self {
            image_width,
            image_height,
            source: Region {
                left: 0.0,
                top: 0.0,
                width: full_width,
                height: full_height,
            },
            left: 0,
            top: 0,
            width: input.width,
            height: input.height,
        };
        match input.resize {
            Resize::Stretch => filling,
            Resize::CenterCrop => {
                let unit = input.crop_ratio * (full_width / wide).min(full_height / high);
                let (width, height) = (unit * wide, unit * high);
                let source = Region {
                    left: (full_width - width) / 2.0,
                    top: (full_height - height) / 2.0,
                    width,
                    height,
                };
                Self { source, ..filling }
            }
            Resize::Letterbox => {
                let scale = (wide / full_width).min(high / full_height);
                // Halves go to the even number, as where letterbox models are trained.
                let side = |full: f64| (full * scale).round_ties_even() as u32;
                let width = side(full_width).clamp(1, input.width);
                let height = side(full_height).clamp(1, input.height);
                Self {
                    left: (input.width - width) / 2,
                    top: (input.height - height) / 2,
                    width,
                    height,
                    ..filling
                }
            }
            Resize::ShorterSide(rule) => {
                let [across, down] = Side::both(rule, image_width, image_height);
                let source = Region {
                    left: across.source_start(),
                    top: down.source_start(),
                    width: across.source_length(),
                    height: down.source_length(),
                };
                Self {
                    source,
                    left: across.padding,
                    top: down.padding,
                    width: across.kept,
                    height: down.kept,
                    ..filling
                }
            }
        }
    }

    /// The smallest scale of the image at which the input loses no detail; 1 or more if the image is enlarged.
    pub fn shrink(&self) -> f64 {
        let across = f64::from(self.width) / self.source.width;
        across.max(f64::from(self.height) / self.source.height)
    }

    /// `source` in the pixels of a smaller copy of the image, as decoders make them.
    pub fn source_in(&self, width: u32, height: u32) -> Region {
        let across = f64::from(width) / f64::from(self.image_width);
        let down = f64::from(height) / f64::from(self.image_height);
        // Stays within the copy despite rounding.
        let left = (self.source.left * across).max(0.0);
        let top = (self.source.top * down).max(0.0);
        Region {
            left,
            top,
            width: (self.source.width * across).min(f64::from(width) - left),
            height: (self.source.height * down).min(f64::from(height) - top),
        }
    }

    /// Maps a point of the image to the input.
    pub fn to_input(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [
            f64::from(self.left)
                + (x - self.source.left) * f64::from(self.width) / self.source.width,
            f64::from(self.top)
                + (y - self.source.top) * f64::from(self.height) / self.source.height,
        ]
    }

    /// Maps a point of the input to the image. A point in the padding maps to outside of the image.
    pub fn to_image(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [
            self.source.left
                + (x - f64::from(self.left)) * self.source.width / f64::from(self.width),
            self.source.top
                + (y - f64::from(self.top)) * self.source.height / f64::from(self.height),
        ]
    }
}

#[cfg(test)]
mod tests;
