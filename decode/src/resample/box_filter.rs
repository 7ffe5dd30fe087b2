//! The box filter of Pillow, to the bit.
//!
//! A pixel counts if its center is at most half a result pixel away. With simple ratios, such as 3 to 2, many centers are exactly
//! that far away, and only the rounding of the floating-point formula decides. So the formulas and the order of operations here are
//! those of Pillow. `fast_image_resize` rounds elsewhere: one value in a hundred then differs, by up to 84 of 255.

use super::{ResizeAxis, RgbView};

/// Weights are whole numbers of this part of one: the products with a byte and their sums fit into 32 bits.
const WEIGHT_BITS: u32 = 22;

/// The pixels of the image that make one result pixel, and the weight of each.
#[derive(Debug)]
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Takes the weighted mean for each pixel of the result. First across, then down; rounds to bytes after each.
pub fn box_average(image: RgbView<'_>, across: ResizeAxis, down: ResizeAxis) -> Vec<u8> {
    let (columns, rows) = (taps(across), taps(down));
    let row_bytes = image.width as usize * 3;
    let first = rows.iter().map(|row| row.first).min().unwrap_or(0);
    let end = rows.iter().map(|row| row.first + row.weights.len()).max();
    let narrow_bytes = columns.len() * 3;
    let mut narrow = Vec::with_capacity((end.unwrap_or(0) - first) * narrow_bytes);
    for row in first..end.unwrap_or(0) {
        let row = &image.rgb[row * row_bytes..][..row_bytes];
        for column in &columns {
            let pixels = row[column.first * 3..].as_chunks::<3>().0;
            let mut sums = [HALF; 3];
            for (pixel, weight) in pixels.iter().zip(&column.weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            narrow.extend(sums.map(to_byte));
        }
    }
    let mut resized = Vec::with_capacity(rows.len() * narrow_bytes);
    let mut sums = vec![0; narrow_bytes];
    for row in &rows {
        sums.fill(HALF);
        let above = narrow[(row.first - first) * narrow_bytes..].chunks_exact(narrow_bytes);
        for (values, weight) in above.zip(&row.weights) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += i32::from(*value) * weight;
            }
        }
        resized.extend(sums.iter().copied().map(to_byte));
    }
    resized
}

/// Half of one: added to a sum, it makes the cut at the end a rounding.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// The taps of each kept pixel.
fn taps(axis: ResizeAxis) -> Vec<Taps> {
    // An enlarged image has no pixel between two of its own: the nearest one is taken.
    let reach = axis.scale.max(1.0);
    let (support, to_filter) = (0.5 * reach, 1.0 / reach);
    let taps = (0..axis.kept).map(|kept| {
        let center = axis.start + (f64::from(axis.cropped + kept) + 0.5) * axis.scale;
        // A cast cuts off, and turns what is below 0 to 0.
        let first = (center - support + 0.5) as u32;
        let end = ((center + support + 0.5) as u32).min(axis.image);
        let is_in = (first..end).map(|pixel| {
            let away = (f64::from(pixel) - center + 0.5) * to_filter;
            away > -0.5 && away <= 0.5
        });
        let is_in: Vec<bool> = is_in.collect();
        let count = is_in.iter().filter(|is_in| **is_in).count();
        let weight = (0.5 + (1.0 / count as f64) * f64::from(1 << WEIGHT_BITS)) as i32;
        Taps {
            first: first as usize,
            weights: is_in
                .into_iter()
                .map(|is_in| i32::from(is_in) * weight)
                .collect(),
        }
    });
    taps.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::ResizeAxis, RgbView, box_average};

    /// An image by a formula that Python repeats.
    fn image(width: u32, height: u32) -> Vec<u8> {
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                rgb.extend([0, 1, 2].map(|c| ((x * 37 + y * 91 + c * 53 + x * y * 7) % 256) as u8));
            }
        }
        rgb
    }

    /// FNV-1a, 64 bits.
    fn fingerprint(bytes: &[u8]) -> u64 {
        let start = 0xcbf2_9ce4_8422_2325;
        bytes.iter().fold(start, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// By Pillow 13.0.0, in sizes that it resizes across first: `Image.fromarray(a).resize(to, Image.Resampling.BOX).crop(…)`.
    #[test]
    fn every_value_is_that_of_pillow() {
        for (from, to, crop, expected) in CASES {
            let axis = |side: usize| ResizeAxis {
                start: 0.0,
                scale: f64::from(from[side]) / f64::from(to[side]),
                cropped: (to[side] - crop[side]) / 2,
                kept: crop[side],
                image: from[side],
            };
            let rgb = image(from[0], from[1]);
            let view = RgbView {
                width: from[0],
                height: from[1],
                rgb: &rgb,
            };
            let resized = box_average(view, axis(0), axis(1));
            assert_eq!(
                fingerprint(&resized),
                expected,
                "{from:?} to {to:?}, of it {crop:?}"
            );
        }
    }

    type Case = ([u32; 2], [u32; 2], [u32; 2], u64);
    const CASES: [Case; 9] = [
        ([640, 480], [224, 168], [224, 168], 0xdfd6_267f_86e7_6f92),
        ([333, 500], [224, 336], [224, 224], 0x64ad_0f43_ad7e_c902),
        ([7, 5], [3, 3], [3, 3], 0xc2df_e84e_d854_6713),
        ([100, 100], [150, 150], [150, 150], 0xc174_64cb_3f8c_7421),
        ([61, 43], [20, 20], [20, 20], 0xa57a_8c03_82cc_d00d),
        ([300, 200], [200, 200], [101, 51], 0x920d_8703_6444_6a13),
        ([1, 1], [7, 3], [7, 3], 0x66c0_3c73_786f_e970),
        ([500, 375], [341, 256], [224, 224], 0x0303_3dc2_acb6_330d),
        ([90, 60], [60, 40], [32, 32], 0x5283_349a_b258_44f5),
    ];
}
