//! Decodes `tests/fixtures/formats`: each file looks like its twin in a format that every machine decodes.

use std::{fs, io::Cursor};

use image::RgbImage;

use super::{difference, fixtures, square};
use crate::{
    Color, Decoded, Format, Header, Limits, Reason, Refusal, Request, Warning, color, decode, heif,
    preload,
    twins::{FULL_SIZE, Random},
};

/// Largest mean difference of a channel between twins, of 255. Measured: up to 2.2.
const TWIN_DIFFERENCE_MAX: f64 = 4.0;

fn limits() -> Limits {
    Limits {
        formats: Format::ALL.to_vec(),
        ..super::limits()
    }
}

fn read(name: &str) -> Vec<u8> {
    let folder = if name == "cat.jpg" {
        "photos"
    } else {
        "formats"
    };
    let path = fixtures().join(folder).join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn decode_bytes(bytes: &[u8], color: Color) -> Result<Decoded, Refusal> {
    let header = Header::read(Cursor::new(bytes), &limits())?;
    let request = Request { color, ..FULL_SIZE };
    decode(bytes, &header, request, &limits(), Vec::new())
}

/// Whether this machine decodes files of this name. Prints a sentence if not.
fn is_decodable(name: &str) -> bool {
    let head = read(name);
    let format = Format::of(&head).expect("a known format");
    let missing = preload(&[format]).err();
    if let Some(missing) = &missing {
        eprintln!("{name} is not tested: {missing}");
    }
    missing.is_none()
}

#[test]
fn every_file_looks_like_its_twin() {
    let twins = [
        ("cat.avif", "cat.jpg"),
        ("cat.heic", "cat.jpg"),
        ("cat.jxl", "cat.jpg"),
        ("turned.avif", "cat.jpg"),
        ("turned.heic", "cat.jpg"),
        ("turned.jxl", "plain.jpg"),
        ("packed.jxl", "cat.jpg"),
        ("grid.heic", "cat.jpg"),
        ("alpha.avif", "alpha.png"),
        ("alpha.heic", "alpha.png"),
        ("alpha.jxl", "alpha.png"),
        ("deep.avif", "plain.jpg"),
        ("deep.heic", "plain.jpg"),
        ("deep.jxl", "plain.jpg"),
        ("gray.avif", "gray.jpg"),
        ("gray.heic", "gray.jpg"),
        ("gray.jxl", "gray.jpg"),
        ("animated.avif", "plain.jpg"),
        ("animated.jxl", "plain.jpg"),
    ];
    let mut wrong = Vec::new();
    for (name, twin) in twins.into_iter().filter(|(name, _)| is_decodable(name)) {
        let twin = decode_bytes(&read(twin), Color::Srgb).expect("a twin decodes");
        match decode_bytes(&read(name), Color::Srgb) {
            Err(refusal) => wrong.push(format!("{name}: {refusal}: {:?}", refusal.cause)),
            Ok(decoded) if decoded.pixels.dimensions() != twin.pixels.dimensions() => {
                wrong.push(format!("{name}: {:?}", decoded.pixels.dimensions()));
            }
            Ok(decoded) => {
                let difference = difference(&decoded.pixels, &twin.pixels);
                if difference > TWIN_DIFFERENCE_MAX || !decoded.warnings.is_empty() {
                    wrong.push(format!(
                        "{name}: differs by {difference:.2}, {:?}",
                        decoded.warnings
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn colors_become_srgb_unless_raw_ones_are_wanted() {
    let twins = [
        ("p3.jpg", "vivid.png"),
        ("adobe-rgb.jpg", "vivid.png"),
        ("adobe-rgb.webp", "vivid.png"),
        ("prophoto.webp", "vivid.png"),
        ("adobe-rgb.png", "tiny.png"),
        ("adobe-rgb.tiff", "tiny.png"),
        ("p3.avif", "vivid.png"),
        ("p3.heic", "vivid.png"),
        ("p3.jxl", "tiny.png"),
        ("p3-packed.jxl", "vivid.png"),
        ("p3-lossless.jxl", "tiny.png"),
        ("prophoto-lossless.jxl", "tiny.png"),
        ("tables.png", "tiny.png"),
        ("p3-code-points.avif", "vivid.png"),
        ("p3-code-points.heic", "vivid.png"),
        ("p3-code-points.png", "tiny.png"),
    ];
    let mut wrong = Vec::new();
    for (name, twin) in twins.into_iter().filter(|(name, _)| is_decodable(name)) {
        let twin = square(
            &decode_bytes(&read(twin), Color::Srgb)
                .expect("a twin")
                .pixels,
        );
        let difference = |color| {
            let decoded = decode_bytes(&read(name), color).expect("decodes");
            assert_eq!(decoded.warnings, [], "{name}");
            difference(&square(&decoded.pixels), &twin)
        };
        let (srgb, raw) = (difference(Color::Srgb), difference(Color::Raw));
        // JPEG XL keeps most pictures in a color space of its own, and has no raw numbers of those.
        let is_raw_different = raw > 2.0 * srgb && raw > 3.0;
        if srgb > TWIN_DIFFERENCE_MAX || !(is_raw_different || name == "p3.jxl") {
            wrong.push(format!("{name}: differs by {srgb:.2}, raw by {raw:.2}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn profiles_of_gray_images_and_profiles_that_make_no_sense_are_ignored() {
    let decoded = |name: &str| decode_bytes(&read(name), Color::Srgb).expect("decodes");
    assert_eq!(
        decoded("gray-profile.jpg").pixels,
        decoded("gray.jpg").pixels
    );
    let broken = decoded("broken-profile.jpg");
    assert_eq!(broken.pixels, decoded("plain.jpg").pixels);
    assert_eq!(broken.warnings, [Warning::BadMetadata]);
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    for name in ["cat.avif", "cat.heic", "cat.jxl", "grid.heic", "packed.jxl"] {
        if !is_decodable(name) {
            continue;
        }
        let bytes = read(name);
        for part in [0.0005, 0.01, 0.1, 0.5, 0.9, 0.99] {
            let cut = &bytes[..(bytes.len() as f64 * part) as usize];
            let refusal = decode_bytes(cut, Color::Srgb).expect_err(name);
            let is_expected = match refusal.reason {
                Reason::Undecodable => true,
                Reason::UnsupportedFormat => cut.len() < Format::MAGIC_BYTES,
                Reason::TooManyPixels => false,
            };
            assert!(is_expected, "{name}, {part} of it: {refusal:?}");
        }
    }
}

/// Replaces the size in the header of a HEIF file.
fn with_size(name: &str, (width, height): (u32, u32), told: (u32, u32)) -> Vec<u8> {
    let ispe = |(width, height): (u32, u32)| {
        [
            b"ispe\0\0\0\0",
            &width.to_be_bytes()[..],
            &height.to_be_bytes()[..],
        ]
        .concat()
    };
    let mut bytes = read(name);
    let (stored, told) = (ispe((width, height)), ispe(told));
    let place = bytes
        .windows(stored.len())
        .position(|window| window == stored);
    let place = place.unwrap_or_else(|| panic!("{name} is not {width}×{height}"));
    bytes[place..place + told.len()].copy_from_slice(&told);
    bytes
}

#[test]
fn sizes_that_lie_are_refused_before_pixels_are_decoded() {
    for (name, size) in [("cat.avif", (451, 300)), ("grid.heic", (256, 256))] {
        if !is_decodable(name) {
            continue;
        }
        let small = decode_bytes(&with_size(name, size, (16, 16)), Color::Srgb);
        let refusal = small.expect_err("more pixels than told");
        assert_eq!(refusal.reason, Reason::Undecodable, "{refusal:?}");
        assert!(refusal.detail.contains("more pixels"), "{refusal}");
        let large = with_size(name, size, (50_000, 50_000));
        let header = Header::read(Cursor::new(&large), &limits()).expect("a header");
        let refusal = limits().check(&header).expect_err("too large");
        assert_eq!(refusal.reason, Reason::TooManyPixels);
    }
}

#[test]
fn limits_hold_for_all_formats() {
    for name in ["cat.avif", "cat.heic", "cat.jxl", "grid.heic"] {
        let bytes = read(name);
        let header = Header::read(Cursor::new(&bytes), &limits()).expect("a header");
        assert_eq!(header.upright_size(), (451, 300), "{name}");
        let refused = |limits: Limits| {
            let refusal = decode(&bytes, &header, FULL_SIZE, &limits, Vec::new());
            refusal.expect_err("refused").reason
        };
        let (side_px_max, bytes_max) = (400, 100_000);
        assert_eq!(
            refused(Limits {
                side_px_max,
                ..limits()
            }),
            Reason::TooManyPixels
        );
        assert_eq!(
            refused(Limits {
                bytes_max,
                ..limits()
            }),
            Reason::TooManyPixels
        );
        let off = Header::read(Cursor::new(&bytes), &super::limits()).expect_err("off by default");
        assert_eq!(off.reason, Reason::UnsupportedFormat);
    }
}

#[test]
fn a_missing_library_names_the_next_step() {
    match preload(&[Format::Heic, Format::Avif]) {
        Ok(()) => {}
        Err(missing) => {
            let text = missing.to_string();
            assert!(text.contains("apt-get install libheif"), "{text}");
        }
    }
    preload(&[Format::Jpeg, Format::Jxl]).expect("these need no library");
}

/// Our own parsers, and the decoder in Rust. libheif runs in a sandbox.
#[test]
fn no_damaged_byte_makes_a_parser_panic() {
    let mut random = Random(0xA076_1D64_78BD_642F);
    for name in [
        "cat.avif",
        "alpha.heic",
        "grid.heic",
        "p3-code-points.avif",
        "p3-lossless.jxl",
        "turned.jxl",
        "packed.jxl",
    ] {
        let file = read(name);
        let is_jxl = Format::of(&file) == Some(Format::Jxl);
        for _ in 0..if is_jxl { 60 } else { 2000 } {
            let mut damaged = file.clone();
            for _ in 0..=random.below(3) {
                let place = random.below(damaged.len().min(1500));
                damaged[place] = random.byte();
            }
            let Ok(header) = Header::read(Cursor::new(&damaged), &limits()) else {
                continue;
            };
            if is_jxl {
                let _ = decode(&damaged, &header, FULL_SIZE, &limits(), Vec::new());
            } else {
                let _ = heif::check_coded_size(&damaged, &header);
                color::convert(&mut RgbImage::new(1, 1), &damaged, &header, &mut Vec::new());
            }
        }
    }
}
