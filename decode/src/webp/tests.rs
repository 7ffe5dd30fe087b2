use crate::{
    Reason, Warning,
    twins::{assert_no_cut_changes_pixels, assert_twins, decode_as_stored, fixture, input, reason},
};

/// Mean difference between a lossy picture and its lossless twin.
const LOSSY: f64 = 8.0;

#[test]
fn wrong_sizes_and_flags_do_not_matter() {
    for name in [
        "webp-alpha-flag-no-alph.webp",
        "webp-icc-flag-no-icc.webp",
        "webp-xmp-flag-no-xmp.webp",
        "webp-riff-too-large.webp",
        "webp-riff-zero.webp",
    ] {
        assert_twins(name, "ref-tiny.png", &[Warning::BadHeader], LOSSY);
    }
    assert_twins("webp-trailing.webp", "ref-tiny.png", &[], LOSSY);
}

#[test]
fn a_first_frame_that_covers_a_part_of_the_canvas_is_on_white() {
    let twin = "ref-webp-on-white.png";
    assert_twins("webp-animated-alpha-flag-vp8-frame.webp", twin, &[], LOSSY);
    assert_twins("webp-animated-no-alpha-flag.webp", twin, &[], LOSSY);
    assert_twins("webp-animated-black-background.webp", twin, &[], LOSSY);
}

#[test]
fn lossless_pictures_equal_their_twins() {
    assert_twins("line-high.webp", "ref-line-high.png", &[], 0.0);
    assert_twins("line-wide.webp", "ref-line-wide.png", &[], 0.0);
    assert_twins("line-wide-2.webp", "ref-line-wide-2.png", &[], 0.0);
    assert_twins(
        "webp-exif-6-le-prefixed.webp",
        "ref-tiny-turned.png",
        &[],
        0.0,
    );
    assert_twins(
        "webp-exif-6-unflagged.webp",
        "ref-tiny-turned.png",
        &[],
        0.0,
    );
}

#[test]
fn a_huge_frame_on_a_small_canvas_is_refused() {
    for name in [
        "webp-animated-huge-frame.webp",
        "webp-small-canvas-huge-vp8l.webp",
    ] {
        assert_eq!(reason(&input(name)), Reason::Undecodable, "{name}");
    }
}

#[test]
fn a_file_with_missing_pixels_is_refused() {
    assert_no_cut_changes_pixels(&fixture("bad/lossless.webp"));
    assert_no_cut_changes_pixels(&input("webp-icc-flag-no-icc.webp"));
}

#[test]
fn an_animation_cut_behind_its_first_frame_is_accepted() {
    let name = "webp-animated-alpha-flag-vp8-frame.webp";
    let file = input(name);
    let whole = decode_as_stored(&file).expect("accepted");
    let cut = decode_as_stored(&file[..file.len() - 30]).expect("accepted");
    assert!(cut.pixels == whole.pixels);
    assert_eq!(cut.warnings, [Warning::BadHeader]);
}

/// A picture of 2×1 pixels: transparent, then red.
#[test]
fn lossless_alpha_is_blended_with_white_and_a_missing_flag_is_not() {
    let file = encode(&[1, 2, 3, 0, 255, 0, 0, 255], image_webp::ColorType::Rgba8);
    let decoded = decode_as_stored(&file).expect("accepted");
    assert_eq!(decoded.pixels.as_raw(), &[255, 255, 255, 255, 0, 0]);

    let mut opaque = file;
    // The last byte of the header of the bitstream says that alpha is used.
    let header = opaque
        .windows(4)
        .position(|kind| kind == b"VP8L")
        .expect("a picture")
        + 8;
    opaque[header + 4] &= !0x10;
    let decoded = decode_as_stored(&opaque).expect("accepted");
    assert_eq!(decoded.pixels.as_raw()[3..], [255, 0, 0]);
    assert_ne!(decoded.pixels.as_raw()[..3], [255, 255, 255]);
}

#[test]
fn the_alpha_of_a_lossy_picture_is_blended_with_white() {
    let file = input("webp-alpha-flag-no-alph.webp");
    // VP8X, and behind it the chunk with alpha: not compressed, not filtered, opaque on the left half.
    let place = 12 + 8 + 10;
    let mut alpha = vec![0];
    alpha.extend((0..224 * 144).map(|pixel| if pixel % 224 < 112 { 255 } else { 0 }));
    let mut with_alpha = file[..place].to_vec();
    with_alpha.extend(b"ALPH");
    with_alpha.extend((alpha.len() as u32).to_le_bytes());
    with_alpha.extend(&alpha);
    with_alpha.extend(&[0][..alpha.len() % 2]);
    with_alpha.extend(&file[place..]);
    let size = (with_alpha.len() - 8) as u32;
    with_alpha[4..8].copy_from_slice(&size.to_le_bytes());

    let opaque = decode_as_stored(&file).expect("accepted").pixels;
    let decoded = decode_as_stored(&with_alpha).expect("accepted");
    assert_eq!(decoded.warnings, []);
    for (x, y, pixel) in decoded.pixels.enumerate_pixels() {
        if x < 112 {
            assert_eq!(pixel, opaque.get_pixel(x, y), "{x}, {y}");
        } else {
            assert_eq!(pixel.0, [255; 3], "{x}, {y}");
        }
    }
}

/// A lossless WebP of 2×1 pixels.
fn encode(pixels: &[u8], color: image_webp::ColorType) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = image_webp::WebPEncoder::new(&mut file);
    encoder.encode(pixels, 2, 1, color).expect("a picture");
    file
}
