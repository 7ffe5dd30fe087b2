//! I9, I19: results equal the reference predictions, and a bad image fails only its own job.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    Stack,
    client::send,
    fixtures::{self, CLASSIFIER, EMBEDDER, answered_embedding, cosine, embedding},
};

const CLASSIFY: &str = "?model=efficientnet-lite0";
const EMBED: &str = "?model=efficientnet-lite0-embed";

/// The expected predictions of a photo, each with its tolerances. A JPEG that is decoded at a smaller scale has two:
/// close tolerances at that scale, and wider ones against the full decode.
fn expectations<'a>(reference: &'a Value, photo: &'a Value) -> Vec<(&'a Value, &'a Value)> {
    let tolerances = &reference["tolerances"];
    let full = photo.as_object().unwrap();
    match full.get("scaled_decode") {
        None => vec![(photo, &tolerances["same_decode"])],
        Some(scaled) => vec![
            (scaled, &tolerances["same_decode"]),
            (photo, &tolerances["scaled_decode"]),
        ],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_equal_the_references() {
    let stack = Stack::with_models().await;
    let _worker = stack.worker("w", &[]).await;
    let reference = fixtures::json("reference.json");
    for (name, photo) in reference["photos"].as_object().unwrap() {
        let job = stack
            .client
            .predicted(&format!("{CLASSIFY}&top_k=1000"), fixtures::photo(name))
            .await;
        let labels = job["result"]["labels"].as_array().unwrap();
        assert_eq!(labels.len(), 1000);
        let scores: Vec<_> = labels
            .iter()
            .map(|label| label["score"].as_f64().unwrap())
            .collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{name}: highest first");
        assert!(
            (scores.iter().sum::<f64>() - 1.0).abs() < 1e-3,
            "{name}: the sum of a softmax is 1"
        );
        let job = stack.client.predicted(EMBED, fixtures::photo(name)).await;
        let embedded = answered_embedding(&job["result"]);
        for (expected, tolerance) in expectations(&reference, photo) {
            assert_scores_are_near(name, labels, &expected[CLASSIFIER], tolerance);
            let cosine = cosine(&embedded, &embedding(&expected[EMBEDDER]));
            let least = tolerance["cosine_min"].as_f64().unwrap();
            assert!(cosine >= least, "{name}: {cosine} < {least}");
        }
    }
}

/// The best label must be equal, unless the two best scores are too near to tell. Every score must be within tolerance.
fn assert_scores_are_near(name: &str, labels: &[Value], expected: &Value, tolerance: &Value) {
    let expected = expected.as_array().unwrap();
    let difference_max = tolerance["score_difference_max"].as_f64().unwrap();
    let score = |label: &Value| label["score"].as_f64().unwrap();
    if score(&expected[0]) - score(&expected[1]) > 2.0 * difference_max {
        assert_eq!(labels[0]["label"], expected[0]["label"], "{name}");
    }
    for wanted in expected {
        let found = labels
            .iter()
            .find(|label| label["index"] == wanted["index"]);
        let found = found.unwrap();
        assert_eq!(found["label"], wanted["label"]);
        let difference = (score(found) - score(wanted)).abs();
        assert!(
            difference <= difference_max,
            "{name} {}: {difference}",
            wanted["label"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ladybird_is_recognized_and_its_job_lists_the_timings() {
    let stack = Stack::with_models().await;
    let worker = stack.worker("w", &[]).await;
    let job = stack
        .client
        .predicted("?top_k=3", fixtures::photo("ladybird.jpg"))
        .await;
    let labels = job["result"]["labels"].as_array().unwrap();
    assert_eq!(labels.len(), 3);
    assert_eq!(labels[0]["label"], "ladybug");
    let timings = job["timings_ms"].as_object().unwrap();
    for stage in [
        "queue",
        "fetch",
        "decode",
        "preprocess",
        "batch_wait",
        "infer",
        "postprocess",
        "total",
    ] {
        let spent = timings.get(stage).and_then(Value::as_f64);
        assert!(spent.is_some_and(|ms| ms >= 0.0), "{stage}: {timings:?}");
    }
    let attempt = &job["attempts"]["items"][0];
    assert_eq!(attempt["worker"], "w");
    assert!(
        attempt["device"].as_str().unwrap().starts_with("cpu"),
        "{attempt}"
    );
    assert_eq!(job["attempts"]["charged"], 1);
    assert!(worker.is_running());
}

/// Every file of `fixtures/bad` gets its documented answer and its documented end. The service works on as before.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_image_fails_alone_and_every_unusual_image_equals_its_twin() {
    let stack = Stack::with_models().await;
    let worker = stack.worker("w", &[]).await;
    let manifest = fixtures::json("bad/manifest.json");
    let canary = manifest["exif_canary"].as_str().unwrap();
    let mut wrong = Vec::new();
    // All at once, so that bad images share forward batches with good ones.
    let mut accepted = Vec::new();
    for file in manifest["files"].as_array().unwrap() {
        let name = file["file"].as_str().unwrap();
        let bytes = fixtures::read(&format!("bad/{name}"));
        let answer = stack.client.post_job(EMBED, "image/jpeg", bytes).await;
        assert!(!answer.text().contains(canary), "{name}: EXIF is echoed");
        let expected = file["post"]["status"].as_u64().unwrap();
        if u64::from(answer.status) != expected {
            wrong.push(format!(
                "{name}: POST {} instead of {expected}: {}",
                answer.status,
                answer.text()
            ));
        } else if expected == 202 {
            accepted.push((
                name,
                &file["job"],
                answer.json()["id"].as_str().unwrap().to_owned(),
            ));
        } else {
            answer.problem(answer.status, file["post"]["code"].as_str().unwrap());
        }
    }
    let mut embeddings = HashMap::new();
    for (name, expected, id) in accepted {
        let job = stack.client.ended(&id).await;
        assert!(!job.to_string().contains(canary), "{name}: EXIF is echoed");
        if job["status"] != expected["status"] {
            wrong.push(format!(
                "{name}: ended {} instead of {}: {}",
                job["status"], expected["status"], job["error"]
            ));
        } else if job["status"] == "failed" {
            if job["error"]["code"] != expected["code"] {
                wrong.push(format!(
                    "{name}: {} instead of {}",
                    job["error"]["code"], expected["code"]
                ));
            }
            if job["attempts"]["charged"] != expected["attempts_charged"] {
                wrong.push(format!(
                    "{name}: {} attempts instead of {}",
                    job["attempts"]["charged"], expected["attempts_charged"]
                ));
            }
        } else {
            embeddings.insert(name, answered_embedding(&job["result"]));
            if let Some(twin) = expected["twin"].as_str() {
                let cosine = embeddings
                    .get(twin)
                    .map_or(f64::NAN, |twin| cosine(twin, &embeddings[name]));
                let least = expected["cosine_min"].as_f64().unwrap();
                if cosine.is_nan() || cosine < least {
                    wrong.push(format!(
                        "{name}: cosine to {twin} is {cosine}, want {least}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    stack
        .client
        .predicted(CLASSIFY, fixtures::photo("cat.jpg"))
        .await;
    assert!(worker.is_running() && stack.api.is_running());
    assert!(
        !worker.log().contains(canary) && !stack.api.log().contains(canary),
        "EXIF is logged"
    );
    assert!(
        stack.api.memory_peak_mib() < 200,
        "the API took {} MiB",
        stack.api.memory_peak_mib()
    );
    assert!(
        worker.memory_peak_mib() < 2000,
        "the worker took {} MiB",
        worker.memory_peak_mib()
    );
}

/// A photo with bytes that the format does not allow, between the last pixel and the end marker.
fn photo_with_stray_bytes() -> Vec<u8> {
    let mut photo = fixtures::photo("cat.jpg");
    let end = photo.len() - 2;
    assert_eq!(photo[end..], [0xff, 0xd9], "the end marker");
    photo.splice(end..end, [0; 12]);
    photo
}

#[tokio::test(flavor = "multi_thread")]
async fn stray_bytes_are_a_warning_of_a_job_that_succeeds() {
    let stack = Stack::with_models().await;
    let worker = stack.worker("w", &[]).await;
    // Without `Cache-Control`, so that the second submit is a hit.
    let submit = async || {
        let request = stack.client.plain_request(Method::POST, "/v1/jobs");
        send(request.body(photo_with_stray_bytes())).await
    };
    let accepted = submit().await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    assert_eq!(accepted.json()["input"]["warnings"], json!([]));
    let job = stack
        .client
        .ended(accepted.json()["id"].as_str().unwrap())
        .await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert_eq!(job["input"]["warnings"], json!(["stray_bytes"]));
    assert_eq!(job["attempts"]["charged"], 1);
    let hit = submit().await;
    assert_eq!((hit.status, &hit.json()["cache"]), (200, &json!("hit")));
    assert_eq!(hit.json()["input"], job["input"]);
    let clean = stack.client.predicted("", fixtures::photo("cat.jpg")).await;
    assert_eq!(clean["input"]["warnings"], json!([]));
    let label = |job: &Value| job["result"]["labels"][0]["label"].clone();
    assert_eq!(label(&clean), label(&job));
    assert!(worker.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_missing_files_fails_its_jobs_but_not_the_worker() {
    let stack = Stack::with_models().await;
    let broken = fixtures::json("../../models/efficientnet-lite0/model.json");
    let mut broken = broken;
    broken["name"] = "broken".into();
    tests::given::registered(&stack.db, broken).await;
    let worker = stack.worker("w", &[]).await;
    let id = stack
        .client
        .submit("?model=broken&max_attempts=1", fixtures::photo("cat.jpg"))
        .await["id"]
        .clone();
    let job = stack.client.ended(id.as_str().unwrap()).await;
    assert_eq!(job["status"], "failed");
    assert_eq!(job["error"]["code"], "model_error", "{job:#}");
    stack
        .client
        .predicted(CLASSIFY, fixtures::photo("cat.jpg"))
        .await;
    assert!(worker.is_running());
}
