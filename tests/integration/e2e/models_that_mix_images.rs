//! The answer for an image never depends on the images beside it: such a model runs alone and says so, or is refused.

use std::time::Duration;

use image::{Rgb, RgbImage};
use serde_json::json;
use tests::{Stack, eventually, fixtures, scene::png};

/// A stack with a module of `tests/fixtures/modules` as its model.
async fn stack_with(module: &str) -> Stack {
    let stack = Stack::bare(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let manifest = json!({
        "name": "module", "task": "raw", "artifact": "model.pt", "batch_max": 8,
        "input": {"width": 8, "height": 8, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255]},
    });
    let artifact = fixtures::read(&format!("modules/{module}.pt"));
    std::fs::write(folder.path().join("model.pt"), artifact).unwrap();
    std::fs::write(folder.path().join("model.json"), manifest.to_string()).unwrap();
    stack.push(folder.path().to_str().unwrap()).await;
    stack
}

fn image(number: u8) -> Vec<u8> {
    let pixel = |x, y| Rgb([number * 8, (x * 30) as u8, (y * 30) as u8]);
    png(&RgbImage::from_fn(8, 8, pixel))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_mixes_images_runs_alone_and_gives_one_answer() {
    let stack = stack_with("batch_mean.trace").await;
    let mut ids = Vec::new();
    for number in 1..=30 {
        for image in [image(0), image(number)] {
            let job = stack.client.submit("?model=module", image);
            ids.push(job.await["id"].as_str().unwrap().to_owned());
        }
    }
    let worker = stack.worker("w", &[]).await;
    let mut answers = Vec::new();
    for id in ids.iter().step_by(2) {
        let job = stack.client.ended(id).await;
        assert_eq!(job["batch"]["size"], 1, "{job:#}");
        assert_eq!(job["result"]["model_warning"], "depends_on_neighbors");
        answers.push(job["result"]["data"].clone());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let warning = || async {
        let list = stack.client.get("/v1/workers").await.json();
        let warning = list["data"][0]["loaded"][0]["warning"].as_str();
        warning.map(str::to_owned)
    };
    let limit = Duration::from_secs(10);
    let warning = eventually(limit, "the warning is reported", warning).await;
    assert!(warning.starts_with("runs one image at a time"), "{warning}");
    let log = worker.log();
    assert_eq!(log.matches(&warning).count(), 1, "logged once: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_traced_in_training_mode_is_refused_and_the_log_says_what_to_do() {
    let stack = stack_with("trained_norm.trace").await;
    let worker = stack.worker("w", &[]).await;
    let job = stack.client.submit("?model=module", image(1)).await;
    let job = stack.client.ended(job["id"].as_str().unwrap()).await;
    assert_eq!(job["error"]["code"], "model_error", "{job:#}");
    assert!(
        !job.to_string().contains("model.eval()"),
        "for operators only"
    );
    let log = worker.log();
    assert!(
        log.contains("batch_norm") && log.contains("model.eval()"),
        "{log}"
    );
}
