//! Builds odd and damaged JPEGs from sound ones, and compares their pixels.

mod damaged;
mod inputs;
mod odd;

use std::{fs, ops::Range, path::PathBuf};

use image::RgbImage;

use super::{decode, libjpeg::Decoder};
use crate::{Reason, Refusal, Warning};

/// 160×112 pixels of `cat.jpg`, by jpegtran: each coefficient is in all of them.
const TWINS: [&str; 4] = [
    "jpeg/baseline.jpg",
    "jpeg/restarts.jpg",
    "jpeg/progressive.jpg",
    "jpeg/arithmetic.jpg",
];

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures")).join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn decode_into(
    memory: Vec<u8>,
    bytes: &[u8],
    scale_min: f64,
) -> Result<(RgbImage, Vec<Warning>), Refusal> {
    let stored = Decoder::open(bytes, 8)
        .map(|decoder| (decoder.header().width, decoder.header().height))
        .unwrap_or_default();
    let mut warnings = Vec::new();
    let pixels = decode(bytes, stored, scale_min, memory, &mut warnings)?;
    Ok((pixels, warnings))
}

fn decode_scaled(bytes: &[u8], scale_min: f64) -> Result<(RgbImage, Vec<Warning>), Refusal> {
    decode_into(Vec::new(), bytes, scale_min)
}

#[track_caller]
fn assert_decodes_as(bytes: &[u8], twin: &[u8], warnings: &[Warning], about: &str) {
    for scale in [0.125, 0.25, 0.5, 1.0] {
        let (twin, _) = decode_scaled(twin, scale).expect("the twin decodes");
        let (pixels, found) = decode_scaled(bytes, scale)
            .unwrap_or_else(|refusal| panic!("{about}: {refusal} ({:?})", refusal.cause));
        assert!(pixels == twin, "{about}: other pixels at scale {scale}");
        assert_eq!(found, warnings, "{about}");
    }
}

#[track_caller]
fn assert_refused(bytes: &[u8], about: &str) {
    for scale in [0.125, 1.0] {
        let refusal = decode_scaled(bytes, scale).err();
        let refusal = refusal.unwrap_or_else(|| panic!("{about}: accepted at scale {scale}"));
        assert_eq!(refusal.reason, Reason::Undecodable);
    }
}

/// Where each marker of a sound JPEG starts, but for restart markers, and its second byte.
fn markers(bytes: &[u8]) -> Vec<(usize, u8)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 1 < bytes.len() {
        let is_marker = bytes[at] == 0xff && !matches!(bytes[at + 1], 0 | 0xd0..=0xd7 | 0xff);
        if !is_marker {
            at += 1;
            continue;
        }
        found.push((at, bytes[at + 1]));
        at += match bytes[at + 1] {
            0xd8 | 0xd9 => 2,
            _ => 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])),
        };
    }
    found
}

fn find(bytes: &[u8], marker: u8) -> usize {
    let found = markers(bytes).into_iter().find(|found| found.1 == marker);
    found.expect("the marker is there").0
}

fn restarts(bytes: &[u8]) -> Vec<usize> {
    let scan = find(bytes, 0xda);
    let places = (scan..bytes.len() - 1).filter(|at| bytes[*at] == 0xff);
    places
        .filter(|at| matches!(bytes[at + 1], 0xd0..=0xd7))
        .collect()
}

fn replace(bytes: &[u8], range: Range<usize>, with: &[u8]) -> Vec<u8> {
    [&bytes[..range.start], with, &bytes[range.end..]].concat()
}

fn insert(bytes: &[u8], at: usize, extra: &[u8]) -> Vec<u8> {
    replace(bytes, at..at, extra)
}

/// Numbers that look random, the same in each run (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// The parts of a progressive JPEG: in front of the scans, each scan with its tables, and the end marker.
fn progressive_parts(bytes: &[u8]) -> Vec<&[u8]> {
    let mut starts = vec![0];
    let mut is_scan_over = true;
    for (at, marker) in markers(bytes) {
        if is_scan_over && matches!(marker, 0xc4 | 0xd9 | 0xda) {
            starts.push(at);
            is_scan_over = false;
        }
        is_scan_over |= marker == 0xda;
    }
    starts.push(bytes.len());
    starts
        .windows(2)
        .map(|part| &bytes[part[0]..part[1]])
        .collect()
}

fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: u64 = a
        .iter()
        .zip(b.iter())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.len() as f64
}
