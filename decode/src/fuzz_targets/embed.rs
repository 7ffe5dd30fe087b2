//! Puts a block of EXIF into small images, and right checksums into a PNG.

/// Comes before the block in a JPEG.
const EXIF_PREFIX: &[u8] = b"Exif\0\0";

const JPEG: &[u8] = include_bytes!("../../../tests/fixtures/bad/upright.jpg");
const PNG: &[u8] = include_bytes!("../../../tests/fixtures/bad/pixel-1x1.png");
const WEBP: &[u8] = include_bytes!("../../../tests/fixtures/bad/lossless.webp");

/// A JPEG with this block as its first segment. A segment has at most 65,535 bytes, so a longer block is cut.
pub(super) fn jpeg(block: &[u8]) -> Vec<u8> {
    let (start, rest) = JPEG.split_at(2);
    let block = cut(block);
    let length = (2 + EXIF_PREFIX.len() + block.len()) as u16;
    [
        start,
        b"\xff\xe1",
        &length.to_be_bytes(),
        EXIF_PREFIX,
        block,
        rest,
    ]
    .concat()
}

/// A PNG with this block in its second chunk.
pub(super) fn png(block: &[u8]) -> Vec<u8> {
    let (start, rest) = PNG.split_at(PNG_SIGNATURE_BYTES + PNG_HEADER_BYTES);
    let chunk = [&b"eXIf"[..], cut(block)].concat();
    let length = (chunk.len() - 4) as u32;
    let checksum = crc32fast::hash(&chunk);
    [
        start,
        &length.to_be_bytes(),
        &chunk,
        &checksum.to_be_bytes(),
        rest,
    ]
    .concat()
}

/// A WebP with this block in its last chunk.
pub(super) fn webp(block: &[u8]) -> Vec<u8> {
    const HAS_EXIF: u8 = 0x08;
    let (_, pixels) = WEBP.split_at(12);
    // The sides of the picture less one: 14 bits each, behind the name, the length and a signature of the chunk `VP8L`.
    let sides = u32::from_le_bytes(pixels[9..13].try_into().expect("four bytes"));
    let (width, height) = (sides & 0x3fff, (sides >> 14) & 0x3fff);
    let mut canvas = vec![HAS_EXIF, 0, 0, 0];
    canvas.extend(&width.to_le_bytes()[..3]);
    canvas.extend(&height.to_le_bytes()[..3]);
    let body = [
        b"WEBP".to_vec(),
        riff_chunk(b"VP8X", &canvas),
        pixels.to_vec(),
        riff_chunk(b"EXIF", cut(block)),
    ];
    riff_chunk(b"RIFF", &body.concat())
}

/// Every format gets the part of the block that a JPEG has room for.
fn cut(block: &[u8]) -> &[u8] {
    &block[..block.len().min(65_000)]
}

fn riff_chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
    let padding: &[u8] = if content.len() % 2 == 1 { &[0] } else { &[] };
    let length = content.len() as u32;
    [name, &length.to_le_bytes(), content, padding].concat()
}

const PNG_SIGNATURE_BYTES: usize = 8;
/// The chunk `IHDR`: length, name, 13 bytes, checksum.
const PNG_HEADER_BYTES: usize = 4 + 4 + 13 + 4;

/// A copy of a PNG in which the checksum of each complete chunk is right.
pub(super) fn with_right_checksums(png: &[u8]) -> Vec<u8> {
    let mut png = png.to_vec();
    let mut rest = png.get_mut(PNG_SIGNATURE_BYTES..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk_mut::<4>() {
        let named = (u32::from_be_bytes(*length) as usize).saturating_add(4);
        let Some((named, after)) = after.split_at_mut_checked(named) else {
            break;
        };
        let Some((checksum, after)) = after.split_first_chunk_mut::<4>() else {
            break;
        };
        *checksum = crc32fast::hash(named).to_be_bytes();
        rest = after;
    }
    png
}
