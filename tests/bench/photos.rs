//! Photos for those who bring none: the fixtures at sizes that cameras and web pages have, grain added, seeded.

use std::path::PathBuf;

use image::{ImageReader, codecs::jpeg::JpegEncoder, imageops::FilterType};

/// Width, height, how many: 40 in all.
const SIZES: [(u32, u32, usize); 5] = [
    (640, 480, 8),
    (1024, 768, 8),
    (1280, 960, 12),
    (1600, 1200, 8),
    (2560, 1920, 4),
];
const QUALITY: u8 = 85;

/// The folder of the seeded set; made once.
pub(crate) fn seeded() -> PathBuf {
    let folder = local::bin_dir().unwrap().join("bench-photos");
    if folder.join("done").exists() {
        return folder;
    }
    eprintln!("making 40 photos in {}", folder.display());
    std::fs::create_dir_all(&folder).unwrap();
    let mut sources: Vec<_> = std::fs::read_dir(tests::fixtures::folder().join("photos"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "jpg"))
        .collect();
    sources.sort();
    let sizes = SIZES
        .iter()
        .flat_map(|&(width, height, count)| [(width, height)].repeat(count));
    for (index, (width, height)) in sizes.enumerate() {
        let source = ImageReader::open(&sources[index % sources.len()])
            .unwrap()
            .decode()
            .unwrap();
        let mut photo = source
            .resize_to_fill(width, height, FilterType::CatmullRom)
            .to_rgb8();
        grain(&mut photo, index as u32);
        let file = std::fs::File::create(folder.join(format!("{index:02}-{width}x{height}.jpg")));
        JpegEncoder::new_with_quality(file.unwrap(), QUALITY)
            .encode_image(&photo)
            .unwrap();
    }
    std::fs::write(folder.join("done"), "").unwrap();
    folder
}

/// A few levels of noise, as a sensor adds: an enlarged picture alone would be too easy to decode.
fn grain(photo: &mut image::RgbImage, seed: u32) {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    for value in photo.iter_mut() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *value = value.saturating_add_signed((state % 9) as i8 - 4);
    }
}
