//! A small picture in the terminal: by an image protocol if the terminal has one, else by characters of two pixels.

use std::{env, fmt::Write, io::Cursor};

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{DynamicImage, ImageFormat, ImageReader, Limits, imageops::FilterType};

/// Characters of a picture; a character is about twice as high as wide.
const WIDTH: u32 = 40;
const HEIGHT: u32 = 16;
/// The longer side of a picture that is sent by an image protocol: sharp on any screen, and small.
const SIDE_PX: u32 = 480;
const KITTY_CHUNK: usize = 4096;
const DECODED_BYTES_MAX: u64 = 512 << 20;

/// Text that draws the image; `None` if the image cannot be decoded here.
pub(crate) fn of(bytes: &[u8]) -> Option<String> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    let image = reader.decode().ok()?;
    let program = env::var("TERM_PROGRAM").unwrap_or_default();
    if env::var_os("KITTY_WINDOW_ID").is_some() || program == "ghostty" {
        kitty(&image)
    } else if program == "iTerm.app" || program == "WezTerm" {
        iterm2(&image)
    } else {
        Some(half_blocks(&image))
    }
}

fn png_in_base64(image: &DynamicImage) -> Option<String> {
    let mut png = Cursor::new(Vec::new());
    let small = image.thumbnail(SIDE_PX, SIDE_PX).to_rgba8();
    small.write_to(&mut png, ImageFormat::Png).ok()?;
    Some(STANDARD.encode(png.into_inner()))
}

/// <https://sw.kovidgoyal.net/kitty/graphics-protocol/>: a PNG at the cursor, in chunks.
fn kitty(image: &DynamicImage) -> Option<String> {
    let data = png_in_base64(image)?;
    let mut text = String::new();
    let pieces = data.as_bytes().chunks(KITTY_CHUNK);
    let last = pieces.len() - 1;
    for (at, piece) in pieces.enumerate() {
        let begin = if at == 0 {
            format!("f=100,a=T,r={HEIGHT},")
        } else {
            String::new()
        };
        let more = u8::from(at < last);
        let piece = String::from_utf8_lossy(piece);
        write!(text, "\x1b_G{begin}m={more};{piece}\x1b\\").ok()?;
    }
    Some(text)
}

/// <https://iterm2.com/documentation-images.html>
fn iterm2(image: &DynamicImage) -> Option<String> {
    let data = png_in_base64(image)?;
    Some(format!(
        "\x1b]1337;File=inline=1;height={HEIGHT}:{data}\x07"
    ))
}

/// `▀` in the color of the upper pixel on the color of the lower one.
fn half_blocks(image: &DynamicImage) -> String {
    let small = image
        .resize(WIDTH, HEIGHT * 2, FilterType::Triangle)
        .to_rgb8();
    let (width, height) = small.dimensions();
    let mut text = String::new();
    for y in (0..height).step_by(2) {
        for x in 0..width {
            let upper = small.get_pixel(x, y).0;
            let lower = small.get_pixel(x, (y + 1).min(height - 1)).0;
            let [r, g, b] = upper;
            let [below_r, below_g, below_b] = lower;
            let _ = write!(
                text,
                "\x1b[38;2;{r};{g};{b}m\x1b[48;2;{below_r};{below_g};{below_b}m▀"
            );
        }
        text.push_str(if y + 2 < height {
            "\x1b[0m\n"
        } else {
            "\x1b[0m"
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb, RgbImage};

    #[test]
    fn half_blocks_show_two_rows_a_line() {
        let image = RgbImage::from_fn(40, 4, |_, y| {
            Rgb(if y < 2 { [255, 0, 0] } else { [0, 0, 255] })
        });
        let text = super::half_blocks(&DynamicImage::from(image));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].matches('▀').count(), 40);
        assert!(lines[0].starts_with("\x1b[38;2;255;0;0m\x1b[48;2;255;0;0m▀"));
        assert!(lines[1].contains("\x1b[38;2;0;0;255m"));
    }

    #[test]
    fn what_is_no_image_is_not_drawn() {
        assert_eq!(super::of(b"nothing"), None);
    }
}
