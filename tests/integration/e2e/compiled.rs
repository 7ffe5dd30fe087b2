//! A version with several artifacts: the worker takes the one that fits its device, and another one if that cannot be used.

use image::RgbImage;
use serde_json::{Value, json};
use tests::{Stack, client::send, fixtures, scene::png};

/// The fixture with other `artifacts`. TorchScript stands for files that the fixture lacks.
async fn stack_with_artifacts(artifacts: Value) -> Stack {
    let stack = Stack::bare(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures::folder().join("aoti");
    for artifact in artifacts.as_object().unwrap().values() {
        let name = artifact.as_str().unwrap();
        let known = Some(source.join(name)).filter(|file| file.exists());
        let file = known.unwrap_or_else(|| source.join("model.pt"));
        std::fs::copy(file, folder.path().join(name)).unwrap();
    }
    std::fs::copy(source.join("model.pt"), folder.path().join("model.pt")).unwrap();
    let mut manifest = fixtures::json("aoti/model.json");
    manifest["artifacts"] = artifacts;
    let text = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(folder.path().join("model.json"), text).unwrap();
    stack.push(folder.path().to_str().unwrap()).await;
    stack
}

/// The numbers that the model gives for a black image.
async fn numbers(stack: &Stack) -> Vec<f64> {
    let job = stack
        .client
        .predicted("?model=compiled", png(&RgbImage::new(8, 8)))
        .await;
    let numbers = job["result"]["data"].as_array().unwrap();
    numbers.iter().map(|one| one.as_f64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_gives_the_results_of_torchscript() {
    let compiled = stack_with_artifacts(json!({"cpu-avx2": "cpu-avx2.pt2"})).await;
    let worker = compiled.worker("compiled", &[]).await;
    let found = numbers(&compiled).await;
    let scripted = stack_with_artifacts(json!({})).await;
    let _worker = scripted.worker("scripted", &[]).await;
    let expected = numbers(&scripted).await;
    assert_eq!(found.len(), 5);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    let log = worker.log();
    if log.contains("the compiled package gives its golden outputs") {
        assert!(!log.contains("an artifact cannot be used"), "{log}");
    } else {
        eprintln!("this CPU has no AVX2: the package was not tested");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_cannot_be_used_is_replaced_by_torchscript() {
    let stack = stack_with_artifacts(json!({"cpu": "no-package.pt2"})).await;
    let worker = stack.worker("w", &[]).await;
    assert_eq!(numbers(&stack).await.len(), 5);
    let log = worker.log();
    assert!(log.contains("an artifact cannot be used"), "{log}");
    let left = std::fs::read_dir(stack.model_cache())
        .unwrap()
        .flatten()
        .map(|file| file.file_name());
    let left = left.filter(|name| name.to_string_lossy().starts_with(".darkroom-package"));
    assert_eq!(left.count(), 0, "unpacked packages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_fetches_only_the_artifact_that_it_uses() {
    let stack = stack_with_artifacts(json!({"cuda-sm90": "cpu-avx2.pt2"})).await;
    let _worker = stack.worker("w", &[]).await;
    assert_eq!(numbers(&stack).await.len(), 5);
    let cached = std::fs::read_dir(stack.model_cache()).unwrap();
    assert_eq!(cached.count(), 1, "only model.pt");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_kind_of_device_is_refused_at_push() {
    let stack = Stack::bare(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures::folder().join("aoti/model.pt");
    std::fs::copy(source, folder.path().join("model.pt")).unwrap();
    let mut manifest = fixtures::json("aoti/model.json");
    manifest["artifacts"] = json!({"cpu-sse": "model.pt"});
    let text = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(folder.path().join("model.json"), text).unwrap();
    let pushed = stack
        .command(&["models", "push", folder.path().to_str().unwrap()])
        .await;
    assert_eq!(pushed.status.code(), Some(2), "{pushed:?}");
    let message = String::from_utf8(pushed.stderr).unwrap();
    assert!(message.contains("artifacts.cpu-sse"), "{message}");
    let models = send(stack.client.request(reqwest::Method::GET, "/v1/models")).await;
    assert_eq!(models.json()["data"], json!([]));
}
