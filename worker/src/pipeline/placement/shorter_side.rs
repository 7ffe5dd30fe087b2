//! The whole-pixel rules of torchvision's `Resize(shorter_side)` and `CenterCrop(crop)`; timm uses them too.

use jobs::manifest::ShorterSide;

/// What the rules do along one axis of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Side of the image, in pixels.
    pub image: u32,
    /// This side after the resize.
    pub resized: u32,
    /// The first pixel of the resized side that is kept.
    pub cropped: u32,
    /// Pixels of the resized side that are kept.
    pub kept: u32,
    /// Black pixels before the kept pixels. The padding fills the rest of the crop too.
    pub padding: u32,
}

impl Side {
    /// The width and the height.
    pub fn both(rule: ShorterSide, image_width: u32, image_height: u32) -> [Self; 2] {
        let shorter = image_width.min(image_height);
        [image_width, image_height].map(|image| Self::of(rule, image, shorter))
    }

    fn of(rule: ShorterSide, image: u32, shorter: u32) -> Self {
        // Cuts the fraction off. For the shorter side the division is exact.
        let resized = u64::from(rule.shorter_side) * u64::from(image) / u64::from(shorter.max(1));
        let resized = u32::try_from(resized).unwrap_or(u32::MAX);
        let crop = rule.crop;
        let (cropped, kept, padding) = if resized < crop {
            (0, resized, (crop - resized) / 2)
        } else {
            (half(resized - crop), crop, 0)
        };
        Self {
            image,
            resized,
            cropped,
            kept,
            padding,
        }
    }

    /// Pixels of the image for one pixel of the resized image.
    fn scale(self) -> f64 {
        f64::from(self.image) / f64::from(self.resized)
    }

    /// Where the kept part starts, in pixels of the image.
    pub(super) fn source_start(self) -> f64 {
        f64::from(self.cropped) * self.scale()
    }

    /// Length of the kept part, in pixels of the image.
    pub(super) fn source_length(self) -> f64 {
        f64::from(self.kept) * self.scale()
    }
}

/// Half of a number of pixels. A fraction of a half goes to the even number, as in Python's `round`.
fn half(pixels: u32) -> u32 {
    let floor = pixels / 2;
    floor + (pixels & floor & 1)
}

#[cfg(test)]
mod tests {
    use jobs::manifest::{Interpolation, ShorterSide};

    use super::{Side, half};

    fn sides(shorter_side: u32, crop: u32, width: u32, height: u32) -> [[u32; 4]; 2] {
        let rule = ShorterSide {
            shorter_side,
            crop,
            interpolation: Interpolation::Bilinear,
        };
        Side::both(rule, width, height).map(|side| {
            let Side {
                resized,
                cropped,
                kept,
                padding,
                ..
            } = side;
            [resized, cropped, kept, padding]
        })
    }

    #[test]
    fn a_half_pixel_goes_to_the_even_number() {
        assert_eq!([0, 1, 2, 3, 4, 5, 7].map(half), [0, 0, 1, 2, 2, 2, 4]);
    }

    #[test]
    fn the_longer_side_is_cut_to_whole_pixels_and_its_crop_is_centered() {
        // 256 * 640 / 427 = 383.7; (383 - 224) / 2 = 79.5
        let wide = sides(256, 224, 640, 427);
        assert_eq!(wide, [[383, 80, 224, 0], [256, 16, 224, 0]]);
        let high = sides(256, 224, 427, 640);
        assert_eq!(high, [wide[1], wide[0]]);
    }

    #[test]
    fn a_crop_beyond_the_resized_image_is_padded_and_the_odd_pixel_comes_last() {
        assert_eq!(sides(20, 25, 40, 20), [[40, 8, 25, 0], [20, 0, 20, 2]]);
        assert_eq!(sides(20, 25, 20, 20), [[20, 0, 20, 2]; 2]);
    }

    #[test]
    fn a_line_of_pixels_has_a_crop() {
        let [across, down] = sides(256, 224, 12_000, 1);
        assert_eq!(across, [3_072_000, 1_535_888, 224, 0]);
        assert_eq!(down, [256, 16, 224, 0]);
    }
}
