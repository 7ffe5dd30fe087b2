//! A store that refuses the credentials or has no such bucket: each program says what to check.

use std::time::Duration;

use jobs::{
    Sha256Digest,
    object_store::{Body, ObjectStore, StoreConfig, StoreError},
};
use tests::{Stack, eventually, fixtures, stack::Running};

const WRONG_SECRET: (&str, &str) = ("AWS_SECRET_ACCESS_KEY", "not-the-secret");
const WRONG_KEY: (&str, &str) = ("AWS_ACCESS_KEY_ID", "NOTTHEKEY");
const ADVICE: &str =
    "S3 refuses the credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// Waits until `/readyz` answers 503 with this text.
pub(super) async fn says_not_ready(process: &Running, text: &str) {
    let url = format!("{}/readyz", process.url);
    eventually(Duration::from_secs(20), "not ready, and why", || async {
        let answer = reqwest::get(&url).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.text().await.ok()?;
        (status == 503 && body.contains(text)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_api_with_a_wrong_secret_says_so() {
    let stack = Stack::bare(&[]).await;
    for wrong in [WRONG_SECRET, WRONG_KEY] {
        let api = stack.spawn_api(&[wrong]);
        says_not_ready(&api, ADVICE).await;
        assert!(api.log().contains(ADVICE), "{}", api.log());
        assert!(api.is_running());
    }
}

#[tokio::test]
async fn an_api_without_its_bucket_says_so() {
    let stack = Stack::bare(&[]).await;
    let api = stack.spawn_api(&[("DARKROOM_S3_BUCKET", "no-such-bucket")]);
    says_not_ready(&api, "S3 has no bucket `no-such-bucket`").await;
}

#[tokio::test]
async fn a_worker_with_a_wrong_secret_says_so_and_takes_no_job() {
    let stack = Stack::with_models().await;
    let photo = fixtures::photo("coffee.jpg");
    let job = stack.client.submit("", photo).await;
    let worker = stack.spawn_worker("w", &[WRONG_SECRET]);
    says_not_ready(&worker, ADVICE).await;
    assert!(worker.log().contains(ADVICE), "{}", worker.log());
    let job = stack.client.job(job["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "queued", "{job:#}");
}

#[tokio::test]
async fn a_direct_push_with_a_wrong_secret_says_so() {
    let stack = Stack::bare(&[]).await;
    let mut push = stack.command_line(&stack.key().await);
    push.args(["models", "push", "--direct", "--no-trial"])
        .arg(fixtures::model(fixtures::CLASSIFIER))
        .env(WRONG_SECRET.0, WRONG_SECRET.1);
    let pushed = push.output().await.unwrap();
    let said = String::from_utf8_lossy(&pushed.stderr);
    assert_eq!(pushed.status.code(), Some(3), "{said}");
    assert!(said.contains(ADVICE), "{said}");
}

#[tokio::test]
async fn every_request_to_a_missing_bucket_names_the_bucket() {
    let store = ObjectStore::connect(&StoreConfig::of_bucket("no-such-bucket")).await;
    let store = store.unwrap();
    let bytes = bytes::Bytes::from_static(b"cat");
    let digest = Sha256Digest::of(&bytes);
    let put = store.put("images/cat", Body::Memory(&bytes), digest, "image/jpeg");
    for refused in [
        store.ping().await,
        put.await,
        store.get("images/cat", digest).await.map(drop),
        store.list("", "", 1).await.map(drop),
    ] {
        let Err(StoreError::Refused(advice)) = refused else {
            panic!("{refused:?}");
        };
        assert!(advice.contains("no bucket `no-such-bucket`"), "{advice}");
    }
}
