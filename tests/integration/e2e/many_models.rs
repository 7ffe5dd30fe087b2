//! More models than a worker has room for: the worker loads and unloads them, and every job ends.

use std::time::Duration;

use image::{Rgb, RgbImage};
use serde_json::Value;
use tests::{Stack, eventually, fixtures, scene::png};

/// The model files have 1578, 2053 and 2410 bytes.
const MODELS: [&str; 3] = ["brightness", "tiles", "bright-box"];
const ROOM_FOR_TWO_MODELS: [(&str, &str); 1] = [("DARKROOM_LOADED_BYTES_MAX", "4500")];

async fn stack() -> Stack {
    let stack = Stack::bare(&[]).await;
    for model in MODELS {
        stack.push(&format!("tasks/{model}")).await;
    }
    stack
}

fn white() -> Vec<u8> {
    png(&RgbImage::from_pixel(8, 8, Rgb([255; 3])))
}

/// Whether `result` is what `model` predicts for a white image.
fn is_right(model: &str, result: &Value) -> bool {
    match model {
        "brightness" => result["value"] == 1.0,
        "tiles" => result["data"] == serde_json::json!([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        _ => result["boxes"][0]["width"] == 8.0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_model_is_unloaded_and_loaded_again_on_demand() {
    let stack = stack().await;
    let worker = stack.worker("w", &ROOM_FOR_TWO_MODELS).await;
    for model in MODELS.iter().chain(&MODELS) {
        let job = stack
            .client
            .predicted(&format!("?model={model}"), white())
            .await;
        assert!(is_right(model, &job["result"]), "{job:#}");
    }
    let log = worker.log();
    let loaded = log.matches("model loaded").count();
    // In this order the next model is always the one that was unloaded last.
    assert_eq!(loaded, 6, "{log}");
    assert_eq!(
        log.matches("unloaded: least recently used").count(),
        4,
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_loaded_models_are_claimed_first_and_all_jobs_succeed() {
    let stack = stack().await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        for model in MODELS {
            let job = stack
                .client
                .submit(&format!("?model={model}"), white())
                .await;
            ids.push((model, job["id"].as_str().unwrap().to_owned()));
        }
    }
    let worker = stack
        .worker(
            "w",
            &[ROOM_FOR_TWO_MODELS[0], ("DARKROOM_CLAIM_AHEAD", "8")],
        )
        .await;
    for (model, id) in ids {
        let job = stack.client.ended(&id).await;
        assert!(is_right(model, &job["result"]), "{job:#}");
    }
    let loaded = worker.log().matches("model loaded").count();
    assert!(loaded <= 18, "{loaded} loadings for 90 jobs");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_the_loaded_models_and_their_best_batch() {
    let stack = stack().await;
    let env = [ROOM_FOR_TWO_MODELS[0], ("DARKROOM_BATCH_MAX", "2")];
    let _worker = stack.worker("w", &env).await;
    for model in MODELS {
        let query = format!("?model={model}");
        stack.client.predicted(&query, white()).await;
    }
    let loaded_models = || async {
        let list = stack.client.get("/v1/workers").await.json();
        let loaded = list["data"][0]["loaded"].as_array().unwrap().clone();
        let models: Vec<_> = loaded.iter().map(|one| one["model"].clone()).collect();
        (models == ["bright-box:1", "tiles:1"]).then_some(loaded)
    };
    let limit = Duration::from_secs(10);
    for model in eventually(limit, "two models are loaded", loaded_models).await {
        assert_eq!(model["precision"], "fp32");
        assert!(
            [1, 2].contains(&model["batch_best"].as_i64().unwrap()),
            "{model}"
        );
    }
    let run = stack.command(&["workers"]).await;
    let page = String::from_utf8(run.stdout).unwrap();
    assert!(page.contains("bright-box:1 fp32 ×"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_never_fits_unloads_the_others_and_its_load_is_tried_once() {
    let stack = stack().await;
    stack.push("tasks/vast").await;
    let worker = stack.worker("w", &[]).await;
    let predict_with_others = async || {
        for model in MODELS {
            let query = format!("?model={model}");
            stack.client.predicted(&query, white()).await;
        }
    };
    predict_with_others().await;
    let job = stack.client.submit("?model=vast&max_attempts=2", white());
    let job = stack.client.ended(job.await["id"].as_str().unwrap()).await;
    assert_eq!(job["error"]["code"], "out_of_memory", "{job:#}");
    assert_eq!(job["attempts"]["charged"], 2, "{job:#}");
    let log = worker.log();
    let unloaded = log.matches("unloaded: least recently used").count();
    assert_eq!(unloaded, 3, "all three others: {log}");
    let failed_loads = log.matches("model not loaded").count();
    assert_eq!(failed_loads, 1, "the second attempt loads nothing: {log}");
    predict_with_others().await;
}

#[tokio::test]
async fn a_loaded_model_counts_its_memory_and_not_only_its_file() {
    let stack = Stack::with_models().await;
    let worker = stack.worker("w", &[]).await;
    let photo = fixtures::photo("coffee.jpg");
    stack.client.predicted("", photo).await;
    let log = worker.log();
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let warm = lines
        .flatten()
        .find(|line| line["message"] == "model warmed up" && line["model"] == fixtures::CLASSIFIER);
    let warm = warm.unwrap_or_else(|| panic!("{log}"));
    let artifact = warm["artifact"].as_str().unwrap();
    let file = fixtures::model(fixtures::CLASSIFIER).join(artifact);
    let file = std::fs::metadata(file).unwrap().len();
    let counted = warm["model.bytes"].as_u64().unwrap();
    assert!(counted > file && counted <= 4 * file, "{counted} {file}");
}
