//! More models than fit: they take turns, and every job is done.

use std::time::Duration;

use image::{Rgb, RgbImage};
use serde_json::Value;
use tests::{Stack, eventually, scene::png};

/// Their files have 1578, 2053 and 2410 bytes.
const MODELS: [&str; 3] = ["brightness", "tiles", "bright-box"];
const TWO_FIT: [(&str, &str); 1] = [("DARKROOM_LOADED_BYTES_MAX", "4500")];

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

/// What each says of a white image.
fn is_right(model: &str, result: &Value) -> bool {
    match model {
        "brightness" => result["value"] == 1.0,
        "tiles" => result["data"] == serde_json::json!([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        _ => result["boxes"][0]["width"] == 8.0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_model_goes_and_comes_back_when_it_is_asked_for() {
    let stack = stack().await;
    let worker = stack.worker("w", &TWO_FIT).await;
    for model in MODELS.iter().chain(&MODELS) {
        let job = stack
            .client
            .predicted(&format!("?model={model}"), white())
            .await;
        assert!(is_right(model, &job["result"]), "{job:#}");
    }
    let log = worker.log();
    let loaded = log.matches("model loaded").count();
    // In this order the one that is asked for next has always just gone.
    assert_eq!(loaded, 6, "{log}");
    assert_eq!(
        log.matches("unloaded: least recently used").count(),
        4,
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_crowd_jobs_of_loaded_models_come_first_and_all_get_done() {
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
        .worker("w", &[TWO_FIT[0], ("DARKROOM_CLAIM_AHEAD", "8")])
        .await;
    for (model, id) in ids {
        let job = stack.client.ended(&id).await;
        assert!(is_right(model, &job["result"]), "{job:#}");
    }
    let loaded = worker.log().matches("model loaded").count();
    assert!(loaded <= 18, "{loaded} loadings for 90 jobs");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_what_is_loaded_and_how_many_images_it_takes_at_once() {
    let stack = stack().await;
    let few = [TWO_FIT[0], ("DARKROOM_BATCH_MAX", "2")];
    let _worker = stack.worker("w", &few).await;
    for model in MODELS {
        let query = format!("?model={model}");
        stack.client.predicted(&query, white()).await;
    }
    let shown = || async {
        let list = stack.client.get("/v1/workers").await.json();
        let loaded = list["data"][0]["loaded"].as_array().unwrap().clone();
        let models: Vec<_> = loaded.iter().map(|one| one["model"].clone()).collect();
        (models == ["bright-box:1", "tiles:1"]).then_some(loaded)
    };
    let limit = Duration::from_secs(10);
    for model in eventually(limit, "the two that fit", shown).await {
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
async fn a_model_that_does_not_fit_makes_the_others_go_first_and_is_not_tried_again_at_once() {
    let stack = stack().await;
    stack.push("tasks/vast").await;
    let worker = stack.worker("w", &[]).await;
    let others = async || {
        for model in MODELS {
            let query = format!("?model={model}");
            stack.client.predicted(&query, white()).await;
        }
    };
    others().await;
    let job = stack.client.submit("?model=vast&max_attempts=2", white());
    let job = stack.client.ended(job.await["id"].as_str().unwrap()).await;
    assert_eq!(job["error"]["code"], "out_of_memory", "{job:#}");
    assert_eq!(job["attempts"]["charged"], 2, "{job:#}");
    let log = worker.log();
    let unloaded = log.matches("unloaded: least recently used").count();
    assert_eq!(unloaded, 3, "all there were: {log}");
    let tried = log.matches("model not loaded").count();
    assert_eq!(tried, 1, "one attempt knew from the other: {log}");
    others().await;
}
