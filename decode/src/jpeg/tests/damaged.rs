//! A JPEG with missing pixels is refused, and no JPEG ends the process.

use super::{
    Random, TWINS, assert_refused, decode_into, decode_scaled, find, insert, markers,
    progressive_parts, read, replace, restarts,
};
use crate::{
    Reason, Warning,
    jpeg::{decode, libjpeg::Decoder},
};

#[test]
fn damage_between_restart_markers_is_refused() {
    let twin = read("jpeg/restarts.jpg");
    let restarts = restarts(&twin);
    let (from, to) = (restarts[4], restarts[5]);
    assert_refused(&replace(&twin, from..to, &[]), "a part is missing");
    assert_refused(&replace(&twin, from..from + 2, &[]), "a marker is missing");
    assert_refused(
        &insert(&twin, from, &twin[from..to]),
        "a part is there twice",
    );
    assert_refused(&insert(&twin, from, &[0x5a; 300]), "bytes before a marker");
    assert_refused(&replace(&twin, to - 2..to, &[]), "a part is too short");
    assert_refused(
        &replace(&twin, from + 1..from + 2, &[0xe0]),
        "another marker",
    );
    let without_interval = replace(&twin, find(&twin, 0xdd)..find(&twin, 0xda), &[]);
    assert_refused(&without_interval, "markers without an interval");
}

#[test]
fn a_jpeg_that_is_cut_in_front_of_its_last_byte_is_refused() {
    let names = ["photos/cat.jpg", "jpeg/baseline.jpg", "jpeg/restarts.jpg"];
    for name in names.into_iter().chain([
        "jpeg/progressive.jpg",
        "jpeg/lossless-gray.jpg",
        "inputs/jpeg-three-scans.jpg",
    ]) {
        let twin = read(name);
        let end = find(&twin, 0xd9);
        let step = end / 300 + 1;
        for cut in (0..end).step_by(step).chain(end - 40..end) {
            assert_refused(&twin[..cut], &format!("{name}: {cut} of {end} bytes"));
        }
    }
}

/// The end of arithmetic data cannot be seen: a decoder reads zeros behind it.
#[test]
fn a_cut_arithmetic_jpeg_is_refused_or_complete() {
    let twin = read("jpeg/arithmetic.jpg");
    let (pixels, _) = decode_scaled(&twin, 1.0).expect("decodes");
    for cut in (0..twin.len())
        .step_by(7)
        .chain(twin.len() - 40..twin.len())
    {
        if let Ok((found, warnings)) = decode_scaled(&twin[..cut], 1.0) {
            assert!(found == pixels, "{cut} bytes");
            assert_eq!(warnings, [Warning::MissingEnd]);
        }
    }
}

#[test]
fn a_jpeg_that_is_cut_between_scans_is_refused() {
    for name in ["jpeg/progressive.jpg", "inputs/jpeg-three-scans.jpg"] {
        let bytes = read(name);
        let scans = markers(&bytes);
        let scans = scans
            .into_iter()
            .filter(|(_, marker)| matches!(marker, 0xc4 | 0xda));
        for (cut, _) in scans {
            assert_refused(&bytes[..cut], &format!("{name}: {cut} bytes"));
        }
    }
}

#[test]
fn a_component_without_a_scan_is_refused_though_the_end_marker_is_there() {
    let bytes = read("inputs/jpeg-three-scans.jpg");
    let scans = markers(&bytes)
        .into_iter()
        .filter(|(_, marker)| *marker == 0xda);
    for (scan, _) in scans.skip(1) {
        let ended = [&bytes[..scan], b"\xff\xd9"].concat();
        assert_refused(&ended, &format!("{scan} bytes"));
    }
}

#[test]
fn a_refinement_of_bits_that_were_never_sent_is_refused() {
    let bytes = read("jpeg/progressive.jpg");
    let parts = progressive_parts(&bytes);
    for scan in 1..parts.len() - 1 {
        let mut without = parts.clone();
        let removed = without.remove(scan);
        let parameters = &removed[find(removed, 0xda)..];
        // The last parameter of a scan: how many bits later scans refine.
        let bits_missing = parameters[1 + usize::from(parameters[3])] & 0x0f;
        let about = format!("without scan {scan}");
        if bits_missing > 0 {
            assert_refused(&without.concat(), &about);
        } else {
            // The file only has less detail.
            decode_scaled(&without.concat(), 1.0).expect(&about);
        }
    }
}

#[test]
fn too_many_scans_are_refused() {
    let bytes = read("jpeg/progressive.jpg");
    let parts = progressive_parts(&bytes);
    let with_scans = |count| {
        // Without the start, the first scan and the end.
        let others = parts.len() - 3;
        let first = parts[1].repeat(count - others);
        [parts[0], &first, &parts[2..].concat()].concat()
    };
    assert!(decode_scaled(&with_scans(100), 1.0).is_ok());
    assert_refused(&with_scans(101), "101 scans");
}

#[test]
fn bytes_that_damage_leaves_over_are_no_padding() {
    assert_refused(&read("bad/garbage-huffman.jpg"), "noise");
    let mut random = Random(2);
    let sound = read("photos/cat.jpg");
    let (scan, end) = (find(&sound, 0xda) + 14, find(&sound, 0xd9));
    let mut accepted = 0;
    for _ in 0..50 {
        let mut bytes = sound.clone();
        let at = scan + random.below(end - scan - 4096);
        bytes[at..at + 4096].fill_with(|| random.next() as u8 & 0x7f);
        accepted += usize::from(decode_scaled(&bytes, 1.0).is_ok());
    }
    assert!(
        accepted <= 2,
        "{accepted} of 50 damaged photos were accepted"
    );
}

#[test]
fn more_than_8_bits_a_sample_are_refused_with_a_reason() {
    let refusal = decode_scaled(&read("inputs/jpeg-12-bit.jpg"), 1.0).expect_err("refused");
    assert_eq!(refusal.reason, Reason::Undecodable);
    assert!(refusal.detail.contains("12 bits a sample"), "{refusal}");
    let mut lossless = read("jpeg/lossless-gray.jpg");
    let precision = find(&lossless, 0xc3) + 4;
    for bits in [2, 7, 9, 16] {
        lossless[precision] = bits;
        let refusal = decode_scaled(&lossless, 1.0).expect_err("refused");
        assert!(refusal.detail.contains("bits a sample"), "{refusal}");
    }
}

#[test]
fn a_size_that_differs_from_the_checked_header_is_refused() {
    let bytes = read("jpeg/baseline.jpg");
    let refusal = decode(&bytes, (160, 111), 1.0, Vec::new(), &mut Vec::new());
    assert_eq!(refusal.expect_err("refused").reason, Reason::Undecodable);
}

#[test]
fn flipped_bits_never_crash_and_a_decode_is_repeatable() {
    let mut random = Random(3);
    for name in TWINS
        .into_iter()
        .chain(["jpeg/lossless-gray.jpg", "bad/cmyk.jpg"])
    {
        let sound = read(name);
        for _ in 0..500 {
            let mut bytes = sound.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            if random.below(4) == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
            // A flipped size may ask for gigabytes. Limits refuse it before a decode.
            let is_small = Decoder::open(&bytes, 8)
                .is_ok_and(|decoder| decoder.header().scaled_pixels() < 1_000_000);
            if is_small {
                let [one, other] = [vec![], vec![7; 100_000]].map(|memory| {
                    decode_into(memory, &bytes, 1.0).map_err(|refusal| refusal.detail)
                });
                assert!(one == other, "{name}: two decodes differ");
            }
        }
    }
}
