//! Samples of any kind become 8-bit RGB. Transparent pixels are blended with white, as on a web page.

/// Adds a row to `rgb`: see [`to_rgb`].
pub(crate) fn add_row(row: &[u8], channels: usize, is_premultiplied: bool, rgb: &mut Vec<u8>) {
    let start = rgb.len();
    rgb.resize(start + row.len() / channels * 3, 0);
    to_rgb(row, channels, is_premultiplied, &mut rgb[start..]);
}

/// Converts pixels of 1 channel (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) to RGB on white. If `is_premultiplied`, the
/// colors are already multiplied by alpha.
pub(crate) fn to_rgb(samples: &[u8], channels: usize, is_premultiplied: bool, rgb: &mut [u8]) {
    if is_premultiplied {
        let blend = |color: u8, alpha: u8| color.saturating_add(255 - alpha);
        convert(samples, channels, blend, rgb);
    } else {
        convert(samples, channels, blend, rgb);
    }
}

fn convert(samples: &[u8], channels: usize, blend: impl Fn(u8, u8) -> u8, rgb: &mut [u8]) {
    let rgb = rgb.as_chunks_mut::<3>().0.iter_mut();
    match channels {
        1 => {
            for (rgb, &gray) in rgb.zip(samples) {
                *rgb = [gray; 3];
            }
        }
        2 => {
            for (rgb, &[gray, alpha]) in rgb.zip(samples.as_chunks::<2>().0) {
                *rgb = [blend(gray, alpha); 3];
            }
        }
        3 => {
            for (rgb, pixel) in rgb.zip(samples.as_chunks::<3>().0) {
                *rgb = *pixel;
            }
        }
        4 => {
            for (rgb, &[red, green, blue, alpha]) in rgb.zip(samples.as_chunks::<4>().0) {
                *rgb = [red, green, blue].map(|color| blend(color, alpha));
            }
        }
        _ => unreachable!("no format has pixels of {channels} channels"),
    }
}

/// Converts RGBA to RGB within its own memory, which is then a quarter too large.
pub(crate) fn rgba_to_rgb_in_place(pixels: &mut Vec<u8>, alpha: Alpha) {
    let count = pixels.len() / 4;
    for pixel in 0..count {
        let [red, green, blue, opacity] = [0, 1, 2, 3].map(|channel| pixels[4 * pixel + channel]);
        let rgb = match alpha {
            Alpha::Blend => [red, green, blue].map(|color| blend(color, opacity)),
            Alpha::Ignore => [red, green, blue],
        };
        pixels[3 * pixel..][..3].copy_from_slice(&rgb);
    }
    pixels.truncate(3 * count);
}

/// Whether the fourth channel is alpha, or has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpha {
    Blend,
    Ignore,
}

/// The nearest 8-bit value of a 16-bit sample.
pub(crate) fn to_8_bits(sample: u16) -> u8 {
    ((u32::from(sample) * 255 + 32_895) >> 16) as u8
}

/// A color of a pixel with this alpha, on white.
pub(crate) fn blend(color: u8, alpha: u8) -> u8 {
    let (color, alpha) = (u32::from(color), u32::from(alpha));
    ((color * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_rounded_to_the_nearest_eight() {
        for sample in 0..=u16::MAX {
            let exact = (f64::from(sample) / 257.0).round() as u8;
            assert_eq!(to_8_bits(sample), exact, "{sample}");
        }
    }

    #[test]
    fn transparent_pixels_become_white() {
        let on_white = |pixel: &[u8], is_premultiplied| {
            let mut rgb = Vec::new();
            add_row(pixel, pixel.len(), is_premultiplied, &mut rgb);
            rgb
        };
        assert_eq!(on_white(&[10, 20, 30, 0], false), [255, 255, 255]);
        assert_eq!(on_white(&[10, 20, 30, 255], false), [10, 20, 30]);
        assert_eq!(on_white(&[0, 100, 255, 128], false), [127, 177, 255]);
        assert_eq!(on_white(&[0, 50, 128, 128], true), [127, 177, 255]);
        assert_eq!(on_white(&[200, 0, 0, 128], true), [255, 127, 127]);
        assert_eq!(on_white(&[100, 0], false), [255, 255, 255]);
        assert_eq!(on_white(&[100, 255], false), [100, 100, 100]);
    }

    #[test]
    fn rgba_is_converted_in_place_as_it_is_by_a_copy() {
        let rgba: Vec<u8> = (0..=255).flat_map(|i| [i, 255 - i, i / 2, i]).collect();
        let mut copied = vec![0; rgba.len() / 4 * 3];
        to_rgb(&rgba, 4, false, &mut copied);
        let mut in_place = rgba.clone();
        rgba_to_rgb_in_place(&mut in_place, Alpha::Blend);
        assert_eq!(in_place, copied);

        let mut opaque = vec![1, 2, 3, 0, 4, 5, 6, 0];
        rgba_to_rgb_in_place(&mut opaque, Alpha::Ignore);
        assert_eq!(opaque, [1, 2, 3, 4, 5, 6]);
    }
}
