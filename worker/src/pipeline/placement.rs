//! Where an image lies in the model's input: one way for its pixels, the other for what the model says of them. Pure.

use jobs::manifest::{InputSpec, Resize};

/// A rectangle, in fractions of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// Which part of an upright image becomes which part of the model's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Sides of the upright image at full size, in pixels.
    pub image_width: u32,
    pub image_height: u32,
    /// What of it is seen.
    pub source: Region,
    /// Where that lies in the input, in whole pixels; the rest is padding.
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
                let width = ((full_width * scale).round() as u32).clamp(1, input.width);
                let height = ((full_height * scale).round() as u32).clamp(1, input.height);
                Self {
                    left: (input.width - width) / 2,
                    top: (input.height - height) / 2,
                    width,
                    height,
                    ..filling
                }
            }
        }
    }

    /// How much of the image must be left for the input to lose nothing: 1 and more when it must be enlarged.
    pub fn shrink(&self) -> f64 {
        let across = f64::from(self.width) / self.source.width;
        across.max(f64::from(self.height) / self.source.height)
    }

    /// What is seen, in the pixels of a copy of the image with these sides: decoders make smaller ones.
    pub fn source_in(&self, width: u32, height: u32) -> Region {
        let across = f64::from(width) / f64::from(self.image_width);
        let down = f64::from(height) / f64::from(self.image_height);
        // Within it whatever the rounding.
        let left = (self.source.left * across).max(0.0);
        let top = (self.source.top * down).max(0.0);
        Region {
            left,
            top,
            width: (self.source.width * across).min(f64::from(width) - left),
            height: (self.source.height * down).min(f64::from(height) - top),
        }
    }

    /// From a point of the image to its point in the input.
    pub fn to_input(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [
            f64::from(self.left)
                + (x - self.source.left) * f64::from(self.width) / self.source.width,
            f64::from(self.top)
                + (y - self.source.top) * f64::from(self.height) / self.source.height,
        ]
    }

    /// The way back; may lead out of the image, from the padding.
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
