//! Damaged files: no decoder panics.

use crate::{
    Format, Warning,
    twins::{Random, decode_as_stored, fixture, input},
};

const MUTATIONS: usize = 2000;

/// Small files of every format that is not JPEG.
const FILES: [&str; 14] = [
    "bad/rgb8.png",
    "bad/adam7.png",
    "bad/gray16.png",
    "bad/palette-alpha.png",
    "bad/alpha.png",
    "bad/pixel-1x1.png",
    "bad/animated.gif",
    "bad/frames-300.gif",
    "bad/lossless.webp",
    "bad/truncated.webp",
    "inputs/line-high.webp",
    "bad/bitmap.bmp",
    "bad/scan.tiff",
    "inputs/webp-animated-huge-frame.webp",
];

#[test]
fn no_damaged_byte_makes_a_decoder_panic() {
    for name in FILES {
        let file = fixture(name);
        let is_png = Format::of(&file) == Some(Format::Png);
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for _ in 0..MUTATIONS {
            let mut damaged = file.clone();
            for _ in 0..=random.below(3) {
                let place = random.below(damaged.len());
                damaged[place] = random.byte();
            }
            if is_png && random.below(4) > 0 {
                correct_checksums(&mut damaged);
            }
            assert_no_panic(name, &damaged);
        }
    }
}

/// Larger files, where most damage is within the pixels.
#[test]
fn no_damaged_pixel_makes_a_decoder_panic() {
    for name in [
        "webp-alpha-flag-no-alph.webp",
        "webp-animated-alpha-flag-vp8-frame.webp",
        "gif-double-clears.gif",
        "tiff-jpeg.tif",
        "tiff-16.tif",
        "tiff-cmyk.tif",
        "bmp-32-zero-alpha.bmp",
    ] {
        let file = input(name);
        let mut random = Random(0xD1B5_4A32_D192_ED03);
        for _ in 0..MUTATIONS / 40 {
            let mut damaged = file.clone();
            // Half of the damage is in the headers.
            let places = if random.below(2) == 0 {
                400
            } else {
                file.len()
            };
            damaged[random.below(places)] = random.byte();
            assert_no_panic(name, &damaged);
        }
    }
}

fn assert_no_panic(name: &str, damaged: &[u8]) {
    let outcome = std::panic::catch_unwind(|| decode_as_stored(damaged).map(|it| it.warnings));
    let decoded = outcome.unwrap_or_else(|_| panic!("{name}: a panic over {damaged:02x?}"));
    if let Ok(warnings) = decoded {
        assert!(warnings.len() <= Warning::ALL.len());
    }
}

/// Writes the right checksum to each chunk, so that the damage gets past it.
fn correct_checksums(png: &mut [u8]) {
    let mut start = 8;
    while let Some(length) = png.get(start..start + 4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let end = start.saturating_add(8).saturating_add(length);
        let Some(named) = png.get(start + 4..end) else {
            return;
        };
        let checksum = crc32fast::hash(named).to_be_bytes();
        let Some(place) = png.get_mut(end..end + 4) else {
            return;
        };
        place.copy_from_slice(&checksum);
        start = end + 4;
    }
}
