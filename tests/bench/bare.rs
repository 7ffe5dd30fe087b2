//! The other side of every ratio: `bare-loop` of crate `worker`.

use std::process::Command;

use serde_json::Value;

use crate::Bench;

/// Runs the bare loop once, on so many threads.
pub(crate) fn run(bench: &Bench, batch: usize, threads: usize) -> Value {
    let root = local::checkout().unwrap();
    let output = Command::new(local::bin_dir().unwrap().join("bare-loop"))
        .arg("--model")
        .arg(root.join("models/efficientnet-lite0"))
        .arg("--photos")
        .arg(&bench.photos)
        .args(["--seconds", &bench.seconds.to_string()])
        .args([
            "--batch",
            &batch.to_string(),
            "--threads",
            &threads.to_string(),
        ])
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
