use serde_json::{Map, Value, json};

use crate::{Bench, bare, median, rounded};

const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

fn precisions(device: &str) -> &'static [&'static str] {
    match device {
        "cpu" => &["fp32", "bf16"],
        _ => &["fp32", "bf16", "fp16"],
    }
}

/// Milliseconds an image of forward passes on one thread, by batch size and precision.
pub(crate) fn measure(bench: &Bench) -> Value {
    let device = bench.device.as_str();
    let precisions = precisions(device);
    let mut readings = vec![vec![Vec::new(); BATCHES.len()]; precisions.len()];
    for round in 1..=bench.rounds {
        for (precision, readings) in precisions.iter().zip(&mut readings) {
            for (batch, readings) in BATCHES.iter().zip(readings) {
                let batch = batch.to_string();
                let options = [
                    ["--part", "infer"],
                    ["--threads", "1"],
                    ["--batch", &batch],
                    ["--precision", precision],
                    ["--device", device],
                    ["--model", bench.model.to_str().unwrap()],
                ];
                let figures = bare::run_with(&bench.photos, bench.seconds, options.as_flattened());
                readings.push(1e3 / figures["images_per_s"].as_f64().unwrap());
            }
        }
        eprintln!("round {round} of {}", bench.rounds);
    }
    let by_batch = |readings: Vec<Vec<f64>>| -> Map<String, Value> {
        let sizes = BATCHES.iter().zip(readings);
        sizes
            .map(|(batch, took)| (format!("batch_{batch}_ms"), rounded(median(took))))
            .collect()
    };
    let mut figures = json!({"device": device, "rounds": bench.rounds, "seconds": bench.seconds});
    for (precision, readings) in precisions.iter().zip(readings) {
        figures[*precision] = by_batch(readings).into();
    }
    figures
}
