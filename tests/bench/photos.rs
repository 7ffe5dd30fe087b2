//! Default photos of the benches: the fixtures at sizes of cameras and web pages, with seeded noise.

use std::path::PathBuf;

use image::{ImageReader, imageops::FilterType};

/// Width, height and number of photos: 40 in all.
const SIZES: [(u32, u32, usize); 5] = [
    (640, 480, 8),
    (1024, 768, 8),
    (1280, 960, 12),
    (1600, 1200, 8),
    (2560, 1920, 4),
];
const QUALITY: i32 = 85;
const OF_ONE_SIZE: usize = 8;

/// Folder of the default photos. Makes them at the first call.
pub(crate) fn seeded() -> PathBuf {
    let sizes = SIZES
        .iter()
        .flat_map(|&(width, height, count)| [(width, height)].repeat(count));
    make_once("bench-photos", &sizes.collect::<Vec<_>>())
}

/// Folder of a few photos of one size. Makes them at the first call.
pub(crate) fn of_one_size(width: u32, height: u32) -> PathBuf {
    let name = format!("bench-photos-{width}x{height}");
    make_once(&name, &[(width, height); OF_ONE_SIZE])
}

fn make_once(name: &str, sizes: &[(u32, u32)]) -> PathBuf {
    let folder = local::bin_dir().unwrap().join(name);
    if folder.join("done").exists() {
        return folder;
    }
    eprintln!("making {} photos in {}", sizes.len(), folder.display());
    std::fs::create_dir_all(&folder).unwrap();
    let mut sources: Vec<_> = std::fs::read_dir(tests::fixtures::folder().join("photos"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "jpg"))
        .collect();
    sources.sort();
    for (index, &(width, height)) in sizes.iter().enumerate() {
        let source = ImageReader::open(&sources[index % sources.len()])
            .unwrap()
            .decode()
            .unwrap();
        let mut photo = source
            .resize_to_fill(width, height, FilterType::CatmullRom)
            .to_rgb8();
        add_noise(&mut photo, index as u32);
        let path = folder.join(format!("{index:02}-{width}x{height}.jpg"));
        std::fs::write(path, encode(&photo)).unwrap();
    }
    std::fs::write(folder.join("done"), "").unwrap();
    folder
}

/// Encodes a photo as cameras and phones do: chroma at half the resolution.
fn encode(photo: &image::RgbImage) -> Vec<u8> {
    let image = turbojpeg::Image {
        pixels: photo.as_raw().as_slice(),
        width: photo.width() as usize,
        pitch: photo.width() as usize * 3,
        height: photo.height() as usize,
        format: turbojpeg::PixelFormat::RGB,
    };
    let jpeg = turbojpeg::compress(image, QUALITY, turbojpeg::Subsamp::Sub2x2).unwrap();
    jpeg.to_vec()
}

/// Adds noise, as a sensor does: an enlarged picture without noise would be too easy to decode.
fn add_noise(photo: &mut image::RgbImage, seed: u32) {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    for value in photo.iter_mut() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *value = value.saturating_add_signed((state % 9) as i8 - 4);
    }
}
