//! What the tests of all formats share: fixtures, and pictures compared with their twins.

use std::{fs, io::Cursor, path::PathBuf};

use image::metadata::Orientation;

use crate::{Decoded, Header, Limits, Reason, Refusal, Warning, decode};

/// A file of `tests/fixtures`.
pub(crate) fn fixture(path: &str) -> Vec<u8> {
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"));
    fs::read(fixtures.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn input(name: &str) -> Vec<u8> {
    fixture(&format!("inputs/{name}"))
}

/// Decodes at full size, and does not turn.
pub(crate) fn decode_as_stored(file: &[u8]) -> Result<Decoded, Refusal> {
    let limits = Limits::tests();
    let mut header = Header::read(Cursor::new(file), &limits)?;
    header.orientation = Orientation::NoTransforms;
    decode(file, &header, 1.0, &limits, Vec::new())
}

/// Why a file is refused.
pub(crate) fn reason(file: &[u8]) -> Reason {
    match decode_as_stored(file) {
        Ok(decoded) => panic!("accepted with {:?}", decoded.warnings),
        Err(refusal) => refusal.reason,
    }
}

/// Checks that a file is accepted with these warnings, and that no channel differs from its twin by more than
/// `difference_max` on average.
pub(crate) fn assert_twins(name: &str, twin: &str, warnings: &[Warning], difference_max: f64) {
    let decoded =
        decode_as_stored(&input(name)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let twin = decode_as_stored(&input(twin)).unwrap_or_else(|error| panic!("{twin}: {error:?}"));
    assert_eq!(decoded.warnings, warnings, "{name}");
    assert_eq!(
        decoded.pixels.dimensions(),
        twin.pixels.dimensions(),
        "{name}"
    );
    let difference = difference(decoded.pixels.as_raw(), twin.pixels.as_raw());
    assert!(
        difference <= difference_max,
        "{name}: differs by {difference:.2}"
    );
}

pub(crate) fn difference(a: &[u8], b: &[u8]) -> f64 {
    let pairs = a.iter().zip(b);
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}

/// Checks that a file that is cut anywhere is refused, unless all of its pixels are there.
pub(crate) fn assert_no_cut_changes_pixels(file: &[u8]) {
    let whole = decode_as_stored(file).expect("the whole file decodes");
    let mut accepted = 0;
    for length in (0..file.len()).filter(|length| length % 23 == 0 || length + 40 > file.len()) {
        if let Ok(cut) = decode_as_stored(&file[..length]) {
            assert!(cut.pixels == whole.pixels, "the first {length} bytes");
            assert_ne!(cut.warnings, whole.warnings, "the first {length} bytes");
            accepted += 1;
        }
    }
    assert!(accepted < 40, "{accepted} cut files have all pixels");
}

/// Pseudo-random numbers that are equal in every run.
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }

    pub fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}
