//! Measures what decoding in a process of its own costs (docs/adr/0021-decoding-in-a-child.md): decodes each photo of a folder in
//! this thread and in a child, in turns, and prints the median times.
//!
//! `cargo run --release --example cost-of-a-child -- target/release/darkroom-decoder target/release/bench-photos`
#![allow(clippy::print_stdout, reason = "its output is the result")]

use std::{
    error::Error,
    fs,
    io::Cursor,
    time::{Duration, Instant},
};

use decode::{
    Color, Format, Header, Limits, Request, decode,
    process::{DecoderProcess, Settings},
};

/// Turns for each photo.
const TURNS: usize = 15;
/// The shorter side of the input that photos are scaled for.
const INPUT_PX: f64 = 256.0;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(program), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("want the path of darkroom-decoder and a folder of JPEGs".into());
    };
    let limits = Limits {
        pixels_max: 40_000_000,
        side_px_max: 12_000,
        bytes_max: 256 << 20,
        formats: vec![Format::Jpeg],
    };
    let mut child = DecoderProcess::start(Settings {
        program: program.into(),
        limits: limits.clone(),
        image_bytes_max: 20_000_000,
        cpu_max: Duration::from_secs(10),
        on_end: |_| {},
    })?;
    let (mut in_thread_ms, mut in_child_ms) = (0.0, 0.0);
    let mut photos = 0;
    for photo in fs::read_dir(folder)? {
        let bytes = fs::read(photo?.path())?;
        let Ok(header) = Header::read(Cursor::new(&bytes), &limits) else {
            continue;
        };
        let request = Request {
            scale_min: INPUT_PX / f64::from(header.width.min(header.height)),
            color: Color::Srgb,
        };
        let mut memory = Vec::new();
        let (mut thread, mut process) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let began = Instant::now();
            let decoded = decode(&bytes, &header, request, &limits, memory)?;
            thread.push(began.elapsed());
            memory = decoded.pixels.into_raw();

            let began = Instant::now();
            child.decode(&bytes, &header, request)?;
            process.push(began.elapsed());
        }
        in_thread_ms += median_ms(thread);
        in_child_ms += median_ms(process);
        photos += 1;
    }
    let [in_thread_ms, in_child_ms] = [in_thread_ms, in_child_ms].map(|ms| ms / f64::from(photos));
    println!("{photos} photos: {in_thread_ms:.3} ms in the thread, {in_child_ms:.3} ms in a child");
    Ok(())
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
