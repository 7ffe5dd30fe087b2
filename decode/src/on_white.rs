//! Transparent pixels on white, as on a web page.

/// Adds a row of RGB or RGBA pixels to `rgb`. Every pixel has `channels` bytes.
pub(crate) fn add_row(row: &[u8], channels: usize, is_premultiplied: bool, rgb: &mut Vec<u8>) {
    if channels == 3 {
        rgb.extend_from_slice(row);
        return;
    }
    for &[red, green, blue, alpha] in row.as_chunks::<4>().0 {
        let colors = [red, green, blue];
        rgb.extend(colors.map(|color| {
            if is_premultiplied {
                color.saturating_add(255 - alpha)
            } else {
                blend(color, alpha)
            }
        }));
    }
}

/// A color of a pixel with this alpha, on white.
pub(crate) fn blend(color: u8, alpha: u8) -> u8 {
    let (color, alpha) = (u32::from(color), u32::from(alpha));
    ((color * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::add_row;

    #[test]
    fn transparent_pixels_become_white() {
        let on_white = |pixel: [u8; 4], is_premultiplied| {
            let mut rgb = Vec::new();
            add_row(&pixel, 4, is_premultiplied, &mut rgb);
            rgb
        };
        assert_eq!(on_white([10, 20, 30, 0], false), [255, 255, 255]);
        assert_eq!(on_white([10, 20, 30, 255], false), [10, 20, 30]);
        assert_eq!(on_white([0, 100, 255, 128], false), [127, 177, 255]);
        assert_eq!(on_white([0, 50, 128, 128], true), [127, 177, 255]);
        assert_eq!(on_white([200, 0, 0, 128], true), [255, 127, 127]);
    }
}
