use crate::twins::{assert_twins, decode_as_stored, input};

#[test]
fn pictures_look_like_their_twins() {
    assert_twins("tiff-16.tif", "ref-tiny.png", &[], 1.0);
    assert_twins("tiff-planar.tif", "ref-tiny.png", &[], 1.0);
    assert_twins("tiff-cmyk.tif", "ref-tiny.png", &[], 2.0);
    assert_twins("tiff-jpeg.tif", "ref-tiny.png", &[], 8.0);
    assert_twins("tiff-turned.tif", "ref-tiny-turned.png", &[], 0.0);
}

#[test]
fn a_picture_with_missing_pixels_is_refused() {
    for name in ["tiff-jpeg.tif", "tiff-16.tif", "tiff-planar.tif"] {
        let file = input(name);
        for length in [file.len() / 2, file.len() - 500] {
            assert!(
                decode_as_stored(&file[..length]).is_err(),
                "{name}: {length}"
            );
        }
    }
}

#[test]
fn a_jpeg_strip_that_is_cut_within_is_refused() {
    let mut file = input("tiff-jpeg.tif");
    // An end mark in the middle of the pixels.
    file[8000..8002].copy_from_slice(b"\xFF\xD9");
    assert!(
        decode_as_stored(&file).is_err(),
        "half of the pixels are missing"
    );
}
