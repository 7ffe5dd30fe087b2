//! The fuzz targets `header`, `exif` and `decode`: functions that take any bytes and panic if a rule is broken. `fuzz/run`
//! runs them under libFuzzer; the tests below run them over seeds and altered seeds.

mod embed;

use std::io::Cursor;

use fuzzing::{PieceReader, peak_bytes};

use crate::{Color, Decoded, Format, Header, Limits, Refusal, Request};

/// Pixels up to here are decoded twice, to see that nothing of an earlier image remains.
const DECODED_TWICE_PX_MAX: u64 = 1 << 16;

/// Most bytes of memory that reading a header takes. The crate `tiff` takes 32 bytes for each of 262,144 values of a tag, and
/// keeps 8.
const HEADER_BYTES_MAX: u64 = 13 << 20;

/// Most bytes of memory that a decode takes beside what its header says. A color profile has up to 4 MiB, and its tables become
/// floats. The crate `image-webp` takes up to 16 MiB for a part of a picture before it sees that the file ends.
const EXTRA_BYTES_MAX: u64 = 24 << 20;

/// Small, so that a fuzzer decodes many images in a second.
fn limits() -> Limits {
    Limits {
        pixels_max: 1 << 20,
        side_px_max: 12_000,
        bytes_max: 64 << 20,
        formats: Format::ALL.to_vec(),
    }
}

/// A header is read alike however its bytes arrive, and in little memory.
pub fn header(bytes: &[u8]) {
    let limits = limits();
    let (header, peak) = peak_bytes(|| Header::read(Cursor::new(bytes), &limits));
    assert!(peak <= HEADER_BYTES_MAX, "{peak} bytes");
    let in_pieces = Header::read(PieceReader::new(bytes), &limits);
    assert_eq!(comparable(&header), comparable(&in_pieces));
    let Ok(header) = header else { return };
    assert_eq!(Format::of(bytes), Some(header.format));
    let (width, height) = header.upright_size();
    assert!(width > 0 && height > 0);
    let costs = [0.0, 0.125, 0.3, 0.5, 1.0].map(|scale_min| header.decode_bytes(scale_min));
    assert!(costs.is_sorted(), "a larger scale costs more: {costs:?}");
    if limits.check(&header).is_ok() {
        let pixels = u64::from(width) * u64::from(height);
        assert!(pixels <= limits.pixels_max);
    }
}

/// What a caller sees of a header or a refusal.
fn comparable(header: &Result<Header, Refusal>) -> Result<&Header, String> {
    header
        .as_ref()
        .map_err(|refusal| format!("{:?}: {refusal}", refusal.reason))
}

/// A block of EXIF turns a JPEG, a PNG and a WebP alike.
pub fn exif(block: &[u8]) {
    let [jpeg, png, webp] =
        [embed::jpeg(block), embed::png(block), embed::webp(block)].map(|image| {
            let header = Header::read(Cursor::new(image), &limits());
            header
                .expect("the image around the block is right")
                .orientation
        });
    // A JPEG must have the prefix, which a PNG and a WebP may have. So a second prefix makes a difference.
    if !block.starts_with(b"Exif\0") {
        assert_eq!(jpeg, png);
    }
    assert_eq!(png, webp);
}

/// An image is decoded to the size and in the memory that its header says, or it is refused.
pub fn decode(bytes: &[u8]) {
    decode_as_announced(bytes);
    if Format::of(bytes) == Some(Format::Png) {
        // A fuzzer does not find checksums, and would get no further than these.
        decode_as_announced(&embed::with_right_checksums(bytes));
    }
}

fn decode_as_announced(bytes: &[u8]) {
    let limits = limits();
    let Ok(header) = Header::read(Cursor::new(bytes), &limits) else {
        return;
    };
    if matches!(header.format, Format::Avif | Format::Heic) {
        return; // pixels are decoded by a library of the system
    }
    let decode = |scale_min, memory| {
        let request = Request {
            scale_min,
            color: Color::Srgb,
        };
        let decode = || crate::decode(bytes, &header, request, &limits, memory);
        let (decoded, peak) = peak_bytes(decode);
        let announced = header.decode_bytes(scale_min);
        assert!(
            peak <= announced.saturating_add(EXTRA_BYTES_MAX),
            "{peak} bytes, but the header says {announced}"
        );
        decoded
    };
    let upright = header.upright_size();
    if let Ok(whole) = decode(1.0, Vec::new()) {
        assert_eq!(whole.pixels.dimensions(), upright);
        limits
            .check(&header)
            .expect("only headers within the limits are decoded");
        assert!(
            whole.warnings.is_sorted_by(|a, b| a < b),
            "{:?}",
            whole.warnings
        );
        if u64::from(upright.0) * u64::from(upright.1) <= DECODED_TWICE_PX_MAX {
            let again = decode(1.0, vec![0xa5; whole.pixels.len()]);
            assert_eq!(again.ok(), Some(whole), "pixels of an earlier image remain");
        }
        check_small(
            &decode(0.1, Vec::new()).expect("a smaller scale needs less"),
            upright,
        );
    } else if let Ok(small) = decode(0.1, Vec::new()) {
        check_small(&small, upright);
    }
}

/// A side of a scaled picture has at least an eighth of its pixels.
fn check_small(small: &Decoded, (width, height): (u32, u32)) {
    let (small_width, small_height) = small.pixels.dimensions();
    let widths = width.div_ceil(8)..=width;
    let heights = height.div_ceil(8)..=height;
    assert!(widths.contains(&small_width) && heights.contains(&small_height));
}

#[cfg(test)]
mod tests {
    use fuzzing::smoke;

    const IMAGES: [&str; 6] = [
        "fuzz/seeds/image",
        "tests/fixtures/inputs",
        "tests/fixtures/bad",
        "tests/fixtures/formats",
        "tests/fixtures/jpeg",
        "tests/fixtures/photos",
    ];

    #[test]
    fn headers_are_read_alike_however_their_bytes_arrive() {
        smoke(super::header, &IMAGES, "", 10_000);
    }

    #[test]
    fn a_block_of_exif_turns_every_format_alike() {
        smoke(super::exif, &["fuzz/seeds/exif"], "", 3_000);
    }

    #[test]
    fn images_are_decoded_to_the_size_of_their_header() {
        smoke(super::decode, &IMAGES, "", 2_000);
    }
}
