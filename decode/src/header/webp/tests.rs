//! Headers of small WebPs, built chunk by chunk.

use std::io::Cursor;

use image::metadata::Orientation;

use super::*;
use crate::{Limits, header::exif::tests::block};

fn chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u32).to_le_bytes();
    let padding = &[0][..data.len() % 2];
    [name, &length[..], data, padding].concat()
}

fn webp(chunks: &[&[u8]]) -> Vec<u8> {
    let chunks = chunks.concat();
    let length = (chunks.len() as u32 + 4).to_le_bytes();
    [b"RIFF", &length[..], b"WEBP", &chunks].concat()
}

fn vp8(width: u16, height: u16) -> Vec<u8> {
    let [w0, w1] = width.to_le_bytes();
    let [h0, h1] = height.to_le_bytes();
    chunk(
        b"VP8 ",
        &[0, 0, 0, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, 1, 2, 3],
    )
}

fn vp8l(width: u32, height: u32, has_alpha: bool) -> Vec<u8> {
    let bits = (width - 1) | (height - 1) << 14 | u32::from(has_alpha) << 28;
    chunk(b"VP8L", &[&[0x2f], &bits.to_le_bytes()[..]].concat())
}

fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let (width, height) = ((width - 1).to_le_bytes(), (height - 1).to_le_bytes());
    chunk(
        b"VP8X",
        &[&[flags, 0, 0, 0], &width[..3], &height[..3]].concat(),
    )
}

fn anmf(at: (u32, u32), size: (u32, u32), chunks: &[u8]) -> Vec<u8> {
    let numbers = [at.0 / 2, at.1 / 2, size.0 - 1, size.1 - 1];
    let numbers = numbers.map(|number| [number as u8, (number >> 8) as u8, (number >> 16) as u8]);
    chunk(b"ANMF", &[&numbers.concat(), &[0; 4][..], chunks].concat())
}

fn read(bytes: &[u8]) -> Result<Header, Refusal> {
    Header::read(Cursor::new(bytes), &Limits::tests())
}

#[track_caller]
fn size(chunks: &[&[u8]]) -> (u32, u32) {
    let header = read(&webp(chunks)).expect("a header");
    assert_eq!(header.warnings, []);
    (header.width, header.height)
}

#[test]
fn each_kind_has_the_size_of_its_header() {
    assert_eq!(size(&[&vp8(30, 20)]), (30, 20));
    assert_eq!(size(&[&vp8l(16_384, 20, false)]), (16_384, 20));
    assert_eq!(size(&[&vp8x(0, 30, 20), &vp8(30, 20)]), (30, 20));
    assert_eq!(
        size(&[&vp8x(0x10, 30, 20), &chunk(b"ALPH", b"1"), &vp8(30, 20)]),
        (30, 20)
    );
    let frame = anmf((2, 4), (20, 10), &vp8l(20, 10, true));
    assert_eq!(
        size(&[&vp8x(2, 30, 20), &chunk(b"ANIM", &[0; 6]), &frame]),
        (30, 20)
    );
}

#[test]
fn scale_bits_are_no_part_of_the_size() {
    assert_eq!(size(&[&vp8(30 + (1 << 14), 20 + (3 << 14))]), (30, 20));
    assert_eq!(
        size(&[&vp8x(0, 30, 20), &vp8(30 + (2 << 14), 20)]),
        (30, 20)
    );
}

#[test]
fn a_picture_that_is_larger_than_its_canvas_is_refused() {
    let anim = chunk(b"ANIM", &[0; 6]);
    for chunks in [
        [&vp8x(0, 64, 64)[..], &vp8l(16_383, 16_383, true), b""],
        [&vp8x(0, 64, 64), &vp8(16_383, 16_383), b""],
        [
            &vp8x(2, 64, 64),
            &anim,
            &anmf((0, 0), (64, 64), &vp8(16_383, 16_383)),
        ],
        [
            &vp8x(2, 64, 64),
            &anim,
            &anmf((0, 0), (16_383, 1), &vp8(16_383, 1)),
        ],
        [
            &vp8x(2, 64, 64),
            &anim,
            &anmf((2, 0), (64, 64), &vp8(64, 64)),
        ],
    ] {
        let refusal = read(&webp(&chunks)).expect_err("refused");
        assert!(
            refusal.detail.contains("64×64 pixels by its header"),
            "{}",
            refusal.detail
        );
    }
}

#[test]
fn the_exif_chunk_turns_wherever_it_stands_and_whatever_its_flag_says() {
    let (pixels, exif) = (vp8(30, 20), chunk(b"EXIF", &block(6)));
    let prefixed = chunk(b"EXIF", &[b"Exif\0\0", &block(6)[..]].concat());
    for flags in [0, 8] {
        let canvas = vp8x(flags, 30, 20);
        for chunks in [
            [&canvas, &exif, &pixels],
            [&canvas, &pixels, &exif],
            [&canvas, &pixels, &prefixed],
        ] {
            let header = read(&webp(&chunks.map(|chunk| &chunk[..]))).expect("a header");
            assert_eq!(header.upright_size(), (20, 30));
            assert_eq!(header.warnings, []);
        }
    }
}

#[test]
fn a_promise_of_the_header_that_the_file_breaks_is_a_warning() {
    for flags in [0x20, 0x10, 0x08, 0x04] {
        let header = read(&webp(&[&vp8x(flags, 30, 20), &vp8(30, 20)])).expect("a header");
        assert_eq!((header.width, header.height), (30, 20));
        assert_eq!(header.warnings, [Warning::BadHeader], "{flags}");
    }
}

#[test]
fn a_wrong_size_of_the_file_is_a_warning() {
    let exif = chunk(b"EXIF", &block(6));
    let whole = webp(&[&vp8x(8, 30, 20), &vp8(30, 20), &exif]);
    for riff_bytes in [0, whole.len() as u32 + 1000] {
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&riff_bytes.to_le_bytes());
        let header = read(&bytes).expect("a header");
        assert_eq!(header.orientation, Orientation::Rotate90);
        assert_eq!(header.warnings, [Warning::BadHeader]);
    }
    let header = read(&[&whole, &b"trailing bytes"[..]].concat()).expect("a header");
    assert_eq!(header.warnings, []);
}

#[test]
fn a_webp_without_a_picture_is_refused() {
    let detail = broken().detail;
    for chunks in [
        &[][..],
        &[&vp8x(0, 30, 20)],
        &[&vp8x(2, 30, 20), &vp8(30, 20)],
        &[&vp8x(2, 30, 20), &anmf((0, 0), (30, 20), b"")],
        &[&chunk(b"EXIF", b""), &vp8(30, 20)],
        &[&vp8(30, 20)[..14].to_vec()],
        &[&chunk(b"VP8 ", &[1, 0, 0, 0x9d, 0x01, 0x2a, 30, 0, 20, 0])],
        &[&chunk(b"VP8L", &[0x2f, 0, 0, 0, 0xff])],
    ] {
        let chunks: Vec<_> = chunks.iter().map(|chunk| &chunk[..]).collect();
        assert_eq!(read(&webp(&chunks)).expect_err("refused").detail, detail);
    }
    let refusal = read(&webp(&[&vp8(0, 20)])).expect_err("refused");
    assert!(refusal.detail.contains("no pixels"), "{}", refusal.detail);
}

#[test]
fn memory_counts_planes_alpha_and_the_canvas() {
    let half_bytes = |chunks: &[&[u8]]| {
        let header = read(&webp(chunks)).expect("a header");
        header.decode_bytes(0.0) * 2 / (3200 * 1600)
    };
    let (lossy, lossless) = (vp8(3200, 1600), vp8l(3200, 1600, true));
    assert_eq!(half_bytes(&[&lossy]), 6 + 3);
    assert_eq!(half_bytes(&[&lossless]), 8 + 2);
    let alpha = [&vp8x(0x10, 3200, 1600)[..], &chunk(b"ALPH", b"1"), &lossy];
    assert_eq!(half_bytes(&alpha), 8 + 3 + 12);
    let exif = chunk(b"EXIF", &block(6));
    let turned = [&vp8x(8, 3200, 1600)[..], &lossless, &exif];
    assert_eq!(half_bytes(&turned), 8 + 6);
    let frame = anmf((0, 0), (1600, 1600), &vp8l(1600, 1600, true));
    assert_eq!(half_bytes(&[&vp8x(2, 3200, 1600), &frame]), 8 / 2 + 6);
}
