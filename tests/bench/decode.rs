use std::{path::Path, process::Command};

use image::imageops::FilterType;
use serde_json::{Value, json};

use crate::{Bench, bare, cpu, median, photos, rounded};

/// Sizes of web pages, old cameras and phones.
const SIZES: [(u32, u32); 4] = [(640, 480), (1280, 960), (2560, 1920), (4000, 3000)];
const SYSTEMS: [&str; 3] = ["darkroom", "pillow", "image"];

/// CPU milliseconds to decode and preprocess one photo, by size: with the worker's code, with Pillow (`draft`), and with the
/// crate `image` alone. The systems take turns.
pub(crate) fn measure(bench: &Bench) -> Value {
    let mut sizes = Vec::new();
    for (width, height) in SIZES {
        let folder = photos::of_one_size(width, height);
        let mut readings = SYSTEMS.map(|_| Vec::new());
        for _ in 0..bench.rounds {
            for (system, readings) in SYSTEMS.iter().zip(&mut readings) {
                readings.push(match *system {
                    "darkroom" => darkroom_ms(&folder, bench.seconds),
                    "pillow" => pillow_ms(&folder, bench.seconds),
                    _ => image_ms(&folder, bench.seconds),
                });
            }
        }
        let [darkroom, pillow, image] = readings.map(median);
        eprintln!("{width}×{height}: {darkroom:.2} ms, Pillow {pillow:.2}, image {image:.2}");
        sizes.push(json!({
            "width_px": width, "height_px": height,
            "darkroom_ms": rounded(darkroom), "pillow_ms": rounded(pillow), "image_ms": rounded(image),
        }));
    }
    json!({"sizes": sizes, "rounds": bench.rounds, "seconds": bench.seconds})
}

fn darkroom_ms(folder: &Path, seconds: f64) -> f64 {
    let options = ["--part", "develop", "--threads", "1"];
    let figures = bare::run_with(folder, seconds, &options);
    figures["cpu_ms_per_image"].as_f64().unwrap()
}

fn pillow_ms(folder: &Path, seconds: f64) -> f64 {
    let root = local::checkout().unwrap();
    let python = root.join(".local/bench/pillow/bin/python");
    let output = Command::new(&python)
        .arg(root.join("tests/bench/peers/pillow/decode.py"))
        .arg(folder)
        .arg(seconds.to_string())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; run tests/bench/peers/pillow/install",
                python.display()
            )
        });
    let printed = String::from_utf8(output.stdout).unwrap();
    let error = || String::from_utf8_lossy(&output.stderr).into_owned();
    printed
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("{}", error()))
}

/// The code of a program that uses only the crate `image`.
fn image_ms(folder: &Path, seconds: f64) -> f64 {
    let photos = crate::load::read(folder);
    let (mut count, began) = (0, cpu::of_this_process());
    loop {
        for photo in photos.iter() {
            let format = image::ImageFormat::Jpeg;
            let decoded = image::ImageReader::with_format(std::io::Cursor::new(photo), format);
            let decoded = decoded.decode().unwrap().into_rgb8();
            let side = (0.875 * f64::from(decoded.width().min(decoded.height()))) as u32;
            let (left, top) = ((decoded.width() - side) / 2, (decoded.height() - side) / 2);
            let crop = image::imageops::crop_imm(&decoded, left, top, side, side);
            let input = image::imageops::resize(&*crop, 224, 224, FilterType::CatmullRom);
            std::hint::black_box(input);
            count += 1;
        }
        let spent = cpu::of_this_process() - began;
        if spent >= seconds {
            return spent * 1e3 / f64::from(count);
        }
    }
}
