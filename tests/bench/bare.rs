//! Runs `bare-loop` of crate `worker`, the baseline of every ratio.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::Bench;

/// Runs the whole bare loop once, on so many threads. Returns its figures.
pub(crate) fn run(bench: &Bench, batch: usize, threads: usize) -> Value {
    let (batch, threads) = (batch.to_string(), threads.to_string());
    let options = [
        ["--batch", &batch],
        ["--threads", &threads],
        ["--device", &bench.device],
        ["--precision", &bench.precision],
        ["--model", bench.model.to_str().unwrap()],
    ];
    run_with(&bench.photos, bench.seconds, options.as_flattened())
}

/// Runs the bare loop once with these further options. Returns its figures.
pub(crate) fn run_with(photos: &Path, seconds: f64, options: &[&str]) -> Value {
    let output = Command::new(local::bin_dir().unwrap().join("bare-loop"))
        .current_dir(local::checkout().unwrap()) // finds its default model in the checkout
        .arg("--photos")
        .arg(photos.canonicalize().unwrap())
        .args(["--seconds", &seconds.to_string()])
        .args(options)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}
