//! A JPEG whose pixels are all there decodes to the pixels of its twin, and tells what is wrong with its file.

use super::{
    Random, TWINS, assert_decodes_as, decode_scaled, difference, find, insert, markers,
    progressive_parts, read, replace, restarts,
};
use crate::Warning;

/// Fewest bytes behind a scan that are always noticed. libjpeg reads up to seven ahead, and forgets them.
const NOTICED_BYTES: usize = 8;

#[test]
fn the_twins_are_equal() {
    for name in TWINS {
        assert_decodes_as(&read(name), &read(TWINS[0]), &[], name);
    }
}

#[test]
fn wrong_scan_parameters_of_a_sequential_jpeg_are_a_bad_header() {
    for name in [
        "jpeg/baseline.jpg",
        "jpeg/restarts.jpg",
        "jpeg/arithmetic.jpg",
    ] {
        let twin = read(name);
        // SOS, the length, the number of components, and two bytes for each of the three.
        let parameters = find(&twin, 0xda) + 2 + 2 + 1 + 6;
        for wrong in [
            [0, 0, 0],
            [0, 62, 0],
            [1, 63, 0],
            [0, 63, 0x13],
            [255, 255, 255],
        ] {
            let bytes = replace(&twin, parameters..parameters + 3, &wrong);
            assert_decodes_as(&bytes, &twin, &[Warning::BadHeader], name);
        }
    }
}

#[test]
fn an_unknown_jfif_version_is_a_bad_header() {
    let twin = read("jpeg/baseline.jpg");
    let version = find(&twin, 0xe0) + 2 + 2 + 5;
    for wrong in [[0, 0], [2, 1], [255, 255]] {
        let bytes = replace(&twin, version..version + 2, &wrong);
        assert_decodes_as(&bytes, &twin, &[Warning::BadHeader], "JFIF");
    }
}

#[test]
fn an_unknown_adobe_transform_is_a_bad_header() {
    let twin = read("jpeg/baseline.jpg");
    let jfif = find(&twin, 0xe0);
    let adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07";
    let bytes = replace(&twin, jfif..find(&twin, 0xdb), adobe);
    assert_decodes_as(&bytes, &twin, &[Warning::BadHeader], "Adobe");
}

#[test]
fn jfif_wins_over_an_adobe_marker() {
    let twin = read("jpeg/baseline.jpg");
    let adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0";
    let bytes = insert(&twin, find(&twin, 0xdb), adobe);
    assert_decodes_as(&bytes, &twin, &[], "RGB, says Adobe");
}

#[test]
fn stray_bytes_between_segments_are_skipped() {
    for name in TWINS {
        let twin = read(name);
        let first_scan = find(&twin, 0xda);
        for (at, marker) in markers(&twin).into_iter().skip(1) {
            let counts: &[usize] = if at <= first_scan {
                &[1, 2, 300]
            } else {
                &[NOTICED_BYTES, 300]
            };
            for count in counts {
                let bytes = insert(&twin, at, &vec![0x5a; *count]);
                let about = format!("{name}: {count} bytes before {marker:02x}");
                assert_decodes_as(&bytes, &twin, &[Warning::StrayBytes], &about);
            }
        }
    }
}

#[test]
fn any_number_of_any_bytes_before_the_end_marker_is_skipped() {
    let mut random = Random(1);
    for name in TWINS {
        let twin = read(name);
        let end = find(&twin, 0xd9);
        for count in [NOTICED_BYTES, 17, 65, 1403, 100_000] {
            let about = format!("{name}: {count} bytes");
            let zeros = insert(&twin, end, &vec![0; count]);
            assert_decodes_as(&zeros, &twin, &[Warning::StrayBytes], &about);
            if name == "jpeg/arithmetic.jpg" {
                continue; // zeros may be left out at the end of the data, so other bytes would belong to it
            }
            // Some look like a marker.
            let bytes = insert(&twin, end, &random.bytes(count));
            let (pixels, warnings) = decode_scaled(&bytes, 1.0).expect(&about);
            assert!(
                pixels == decode_scaled(&twin, 1.0).expect("decodes").0,
                "{about}"
            );
            assert!(!warnings.is_empty(), "{about}");
        }
    }
}

#[test]
fn markers_between_the_last_pixel_and_the_end_are_skipped() {
    for name in TWINS {
        let twin = read(name);
        for stray in [
            &b"\xff\x05"[..],
            b"\xff\xd8",
            b"\xff\xc0\0\x02",
            b"\xff\xf0\0\x04",
        ] {
            let bytes = insert(&twin, find(&twin, 0xd9), stray);
            let about = format!("{name}: {stray:02x?}");
            assert_decodes_as(&bytes, &twin, &[Warning::StrayBytes], &about);
        }
    }
}

#[test]
fn restart_markers_outside_of_scans_are_ignored() {
    for name in TWINS {
        let twin = read(name);
        for (at, marker) in markers(&twin).into_iter().skip(1) {
            let bytes = insert(&twin, at, b"\xff\xd3");
            assert_decodes_as(&bytes, &twin, &[], &format!("{name}: before {marker:02x}"));
        }
    }
}

#[test]
fn restart_markers_with_wrong_numbers_are_a_bad_header() {
    let twin = read("jpeg/restarts.jpg");
    for wrong in [|_| 0xd0, |number: usize| 0xd0 + (number as u8 + 1) % 8] {
        let mut bytes = twin.clone();
        for (number, at) in restarts(&twin).into_iter().enumerate() {
            bytes[at + 1] = wrong(number);
        }
        assert_decodes_as(&bytes, &twin, &[Warning::BadHeader], "renumbered");
    }
}

#[test]
fn a_missing_end_marker_is_a_missing_end() {
    for name in [
        "jpeg/baseline.jpg",
        "jpeg/restarts.jpg",
        "jpeg/progressive.jpg",
    ]
    .into_iter()
    .chain([
        "inputs/jpeg-three-scans.jpg",
        "jpeg/lossless-gray.jpg",
        "photos/cat.jpg",
    ]) {
        let twin = read(name);
        let end = find(&twin, 0xd9);
        assert_decodes_as(&twin[..end], &twin, &[Warning::MissingEnd], name);
        assert_decodes_as(&twin[..=end], &twin, &[Warning::MissingEnd], name);
    }
}

/// The file says that it ends here: all blocks are there, with less detail.
#[test]
fn a_progressive_jpeg_may_end_early_with_an_end_marker() {
    let bytes = read("jpeg/progressive.jpg");
    let (last, _) = *markers(&bytes)
        .iter()
        .rfind(|(_, marker)| *marker == 0xc4)
        .expect("scans");
    let ended = [&bytes[..last], b"\xff\xd9"].concat();
    let (pixels, warnings) = decode_scaled(&ended, 1.0).expect("decodes");
    let (full, _) = decode_scaled(&bytes, 1.0).expect("decodes");
    let difference = difference(&pixels, &full);
    assert!(difference < 5.0, "{difference}");
    assert_eq!(warnings, []);
}

#[test]
fn scans_in_an_odd_order_that_lose_nothing_are_a_bad_header() {
    let twin = read("jpeg/progressive.jpg");
    let parts = progressive_parts(&twin);
    assert_eq!(parts.concat(), twin);
    let mut swapped = parts.clone();
    swapped.swap(1, 2);
    assert_decodes_as(
        &swapped.concat(),
        &twin,
        &[Warning::BadHeader],
        "AC before DC",
    );
    let mut doubled = parts.clone();
    doubled.insert(1, parts[1]);
    assert_decodes_as(
        &doubled.concat(),
        &twin,
        &[Warning::BadHeader],
        "sent twice",
    );
}
