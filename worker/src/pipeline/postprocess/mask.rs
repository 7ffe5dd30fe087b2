//! A mask: a picture with the class of each pixel of the upright image.

use image::{
    ExtendedColorType, ImageEncoder, ImageError,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use serde_json::{Value, json};

use crate::pipeline::Placement;

/// Most classes of a mask.
pub(super) const CLASSES_MAX: usize = 255;
/// The value of pixels that the model did not see: those outside of a `center_crop`.
const UNSEEN: u8 = 255;

/// A grid of classes over the input of the model, and the placement of the image in the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    pub cells: Vec<u8>,
    pub rows: usize,
    pub columns: usize,
    pub input_width: u32,
    pub input_height: u32,
    pub placement: Placement,
    pub labels: Vec<String>,
}

/// A drawn mask.
#[derive(Debug, PartialEq)]
pub struct DrawnMask {
    /// 8-bit gray: the index of the class, or 255 where the model did not look.
    pub png: Vec<u8>,
    /// `{"width", "height", "classes": [{"label", "index", "pixels"}]}`, for the classes in the picture.
    pub result: Value,
}

impl Mask {
    /// Draws the mask in the size of the upright image, without the padding. Each pixel has the class of the cell under
    /// its center.
    ///
    /// # Errors
    /// The PNG encoder failed.
    pub fn draw(&self) -> Result<DrawnMask, ImageError> {
        let (width, height) = (self.placement.image_width, self.placement.image_height);
        let pixels = self.pixels();
        let mut counts = [0_u64; 256];
        for class in &pixels {
            counts[usize::from(*class)] += 1;
        }
        let classes = counts.iter().take(CLASSES_MAX).enumerate();
        let classes = classes
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| json!({"label": self.labels.get(index), "index": index, "pixels": count}));
        let result =
            json!({"width": width, "height": height, "classes": classes.collect::<Vec<_>>()});
        let mut png = Vec::new();
        // Rows repeat, so the difference to the row above is mostly zeros.
        PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Up).write_image(
            &pixels,
            width,
            height,
            ExtendedColorType::L8,
        )?;
        Ok(DrawnMask { png, result })
    }

    fn pixels(&self) -> Vec<u8> {
        let (width, height) = (self.placement.image_width, self.placement.image_height);
        let columns: Vec<_> = (0..width)
            .map(|x| {
                let [x, _] = self.placement.to_input([f64::from(x) + 0.5, 0.5]);
                cell(
                    x,
                    self.placement.left,
                    self.placement.width,
                    self.input_width,
                    self.columns,
                )
            })
            .collect();
        let mut pixels = vec![UNSEEN; width as usize * height as usize];
        for (y, row) in pixels.chunks_exact_mut(width as usize).enumerate() {
            let [_, y] = self.placement.to_input([0.5, y as f64 + 0.5]);
            let at = cell(
                y,
                self.placement.top,
                self.placement.height,
                self.input_height,
                self.rows,
            );
            let Some(at) = at else { continue };
            let cells = &self.cells[at * self.columns..][..self.columns];
            for (pixel, column) in row.iter_mut().zip(&columns) {
                if let Some(column) = column {
                    *pixel = cells[*column];
                }
            }
        }
        pixels
    }
}

/// The cell at a position of the input; `None` outside of the image.
fn cell(at: f64, from: u32, length: u32, side: u32, cells: usize) -> Option<usize> {
    if !(f64::from(from)..f64::from(from + length)).contains(&at) {
        return None;
    }
    let cell = (at * cells as f64 / f64::from(side)) as usize;
    Some(cell.min(cells - 1))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::ImageFormat;
    use jobs::manifest::InputSpec;
    use serde_json::json;

    use super::Mask;
    use crate::pipeline::Placement;

    /// A grid of 4 × 4 cells over an input of 8 × 8 pixels, each cell a class of its own.
    fn mask(resize: &str, crop_ratio: f64, width: u32, height: u32) -> Mask {
        let input: InputSpec = serde_json::from_value(json!({
            "width": 8, "height": 8, "resize": resize, "crop_ratio": crop_ratio, "mean": [0, 0, 0], "std": [1, 1, 1]
        }))
        .expect("input");
        Mask {
            cells: (0..16).collect(),
            rows: 4,
            columns: 4,
            input_width: 8,
            input_height: 8,
            placement: Placement::of(&input, width, height),
            labels: vec!["a".into(), "b".into()],
        }
    }

    #[test]
    fn a_stretched_image_is_covered_by_all_cells() {
        let expected: Vec<u8> = (0..16).flat_map(|cell| [cell, cell]).collect();
        assert_eq!(mask("stretch", 1.0, 8, 4).pixels(), expected);
    }

    #[test]
    fn the_padding_of_a_letterbox_is_left_out() {
        // 16 × 8 pixels over the middle two rows of cells.
        let pixels = mask("letterbox", 1.0, 16, 8).pixels();
        let row = |cells: [u8; 4]| {
            cells
                .into_iter()
                .flat_map(|cell| [cell; 4])
                .collect::<Vec<_>>()
        };
        assert_eq!(pixels[..16], row([4, 5, 6, 7]));
        assert_eq!(pixels[16 * 7..], row([8, 9, 10, 11]));
    }

    #[test]
    fn pixels_outside_of_a_crop_are_unseen() {
        // The middle 4 × 4 of 8 × 8 pixels.
        let pixels = mask("center_crop", 0.5, 8, 8).pixels();
        assert_eq!(pixels[..8], [255; 8]);
        assert_eq!(pixels[16..24], [255, 255, 0, 1, 2, 3, 255, 255]);
    }

    #[test]
    fn a_crop_of_whole_pixels_is_seen_and_the_rest_is_not() {
        // 12 × 6 pixels become 16 × 8; the crop of 8 × 8 starts at column 4, which is pixel 3 of the image.
        let mut mask = mask("stretch", 1.0, 12, 6);
        let input: InputSpec = serde_json::from_value(json!({
            "resize": {"shorter_side": 8, "crop": 8}, "mean": [0, 0, 0], "std": [1, 1, 1]
        }))
        .expect("input");
        mask.placement = Placement::of(&input, 12, 6);
        let row = [255, 255, 255, 0, 1, 1, 2, 3, 3, 255, 255, 255];
        assert_eq!(mask.pixels()[..12], row);
    }

    #[test]
    fn a_drawn_mask_is_a_png_with_its_classes_counted() {
        let drawn = mask("letterbox", 1.0, 4, 16).draw().expect("a mask");
        let png = image::ImageReader::with_format(Cursor::new(&drawn.png), ImageFormat::Png);
        let png = png.decode().expect("a PNG").into_luma8();
        assert_eq!(png.dimensions(), (4, 16));
        assert_eq!(png.into_raw(), mask("letterbox", 1.0, 4, 16).pixels());
        let result = &drawn.result;
        assert_eq!(
            (&result["width"], &result["height"]),
            (&json!(4), &json!(16))
        );
        // A quarter of the input's width: the middle of the second and third columns of cells.
        assert_eq!(
            result["classes"][0],
            json!({"label": "b", "index": 1, "pixels": 8})
        );
        assert_eq!(result["classes"].as_array().map(Vec::len), Some(8));
    }
}
