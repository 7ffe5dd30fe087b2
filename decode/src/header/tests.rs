//! Headers of all pictures of `tests/fixtures/inputs`, and of damaged copies of them.

use std::{fs, io::Cursor, path::PathBuf};

use image::metadata::Orientation;
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::Value;

use super::Header;
use crate::{Limits, Refusal};

fn inputs() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/inputs"
    ))
}

fn bytes(name: &str) -> Vec<u8> {
    let path = inputs().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The header, within limits.
fn read(bytes: &[u8]) -> Result<Header, Refusal> {
    let limits = Limits::tests();
    let header = Header::read(Cursor::new(bytes), &limits)?;
    limits.check(&header)?;
    Ok(header)
}

/// Files that are refused by their headers, even where every format is on.
const REFUSED: [&str; 12] = [
    "avif-named.jpg",
    "gif-1x1-screen-121-megapixel-frame.gif",
    "gif-zero-screen.gif",
    "icon.ico",
    "jpeg-12-bit.jpg",
    "jpeg-after-bom.jpg",
    "jpeg-after-zeros.jpg",
    "jxl-of-jpeg.jpg",
    "photo.mov.jpg",
    "png-cgbi.png",
    "webp-animated-huge-frame.webp",
    "webp-small-canvas-huge-vp8l.webp",
];

#[test]
fn every_picture_has_the_upright_size_of_its_twin() {
    let manifest: Value = serde_json::from_slice(&bytes("manifest.json")).expect("manifest");
    let mut wrong = Vec::new();
    for file in manifest["files"].as_array().expect("files") {
        let name = file["file"].as_str().expect("a name");
        match (read(&bytes(name)), file["reference"].as_str()) {
            (Err(refusal), _) if !REFUSED.contains(&name) => {
                wrong.push(format!("{name}: {refusal}"));
            }
            (Ok(header), Some(twin)) => {
                let twin = read(&bytes(twin)).expect("a twin").upright_size();
                let size = header.upright_size();
                if size != twin || REFUSED.contains(&name) {
                    wrong.push(format!("{name}: {size:?}, its twin {twin:?}"));
                }
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pictures_are_turned_as_their_metadata_say() {
    let turned = [
        "exif-after-dqt.jpg",
        "exif-byte-mm.jpg",
        "exif-large-6.jpg",
        "exif-long-ii.jpg",
        "exif-two-6-then-1.jpg",
        "exif-unsorted.jpg",
        "motion-photo.jpg",
        "png-exif-6-after-idat.png",
        "png-exif-6-prefixed.png",
        "png-raw-profile-6.png",
        "tiff-turned.tif",
        "webp-exif-6-le-prefixed.webp",
        "webp-exif-6-unflagged.webp",
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir(inputs()).expect("inputs") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("a name");
        if let Ok(header) = read(&bytes(&name)) {
            match header.orientation {
                Orientation::NoTransforms => {}
                Orientation::Rotate90 => found.push(name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    found.sort_unstable();
    assert_eq!(found, turned);
}

#[test]
fn a_header_is_read_alike_from_a_slow_file() {
    for name in [
        "exif-thumbnail-inside.jpg",
        "png-raw-profile-6.png",
        "webp-exif-6-le-prefixed.webp",
        "gif-87a.gif",
        "tiff-turned.tif",
    ] {
        let path = inputs().join(name);
        let file = fs::File::open(&path).expect("a file");
        let slow = std::io::BufReader::with_capacity(16, file);
        let header = Header::read(slow, &Limits::tests()).expect("a header");
        assert_eq!(header, read(&bytes(name)).expect("a header"), "{name}");
    }
}

fn all_inputs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<_> = fs::read_dir(inputs())
        .expect("inputs")
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("a file"))
        .collect();
    inputs.sort_unstable();
    inputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_the_parser_panic(
        input in any::<Index>(),
        cut in any::<Index>(),
        is_cut in any::<bool>(),
        damage in vec((0_usize..600, any::<u8>()), 0..8),
    ) {
        thread_local! {
            static INPUTS: Vec<Vec<u8>> = all_inputs();
        }
        let mut bytes = INPUTS.with(|inputs| inputs[input.index(inputs.len())].clone());
        for (at, byte) in damage {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if is_cut {
            let length = cut.index(bytes.len());
            bytes.truncate(length);
        }
        let limits = Limits::tests();
        if let Ok(header) = Header::read(Cursor::new(&bytes), &limits) {
            let smallest = header.decode_bytes(0.0);
            prop_assert!(smallest <= header.decode_bytes(1.0));
            prop_assert!(header.width > 0 && header.height > 0);
            drop(limits.check(&header));
        }
    }
}
