//! A bucket that a program cannot use, or that is another one: the program says so before it takes work.

use std::time::Duration;

use jobs::{
    Sha256Digest,
    object_store::{Body, ObjectStore},
};
use serde_json::json;
use tests::{Client, Stack, eventually, fixtures, given, own_store::OwnStore, stack::Running};

use super::refused_store::says_not_ready;

fn borrowed<'a>(env: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    env.iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

async fn is_ready(process: &Running) {
    let url = format!("{}/readyz", process.url);
    eventually(Duration::from_secs(30), "ready", || async {
        (reqwest::get(&url).await.ok()?.status() == 200).then_some(())
    })
    .await;
}

/// The row of `ops.health` with this name: value, ok, advice.
async fn health(stack: &Stack, name: &str) -> (f64, bool, String) {
    sqlx::query_as("select value, ok, advice from ops.health where name = $1")
        .bind(name)
        .fetch_one(&*stack.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_api_that_may_not_put_says_so_and_refuses_submits_for_good() {
    let store = OwnStore::start().await;
    let stack = Stack::without_workers().await;
    store.behave(&json!({"deny": ["put"]}));
    let env = store.env();
    let api = stack.spawn_api(&borrowed(&env));
    says_not_ready(&api, "putting a check object failed: S3 denies the request").await;
    says_not_ready(
        &api,
        &format!("bucket `{}` at {}", stack.bucket(), store.endpoint()),
    )
    .await;
    let (value, ok, advice) = health(&stack, "processes without their bucket").await;
    assert_eq!((value, ok), (1.0, false));
    assert!(advice.contains("putting a check object failed"), "{advice}");

    let client = Client::new(&api.url, Some(stack.key().await));
    let refused = client
        .post_job("", "image/jpeg", fixtures::photo("cat.jpg"))
        .await;
    let problem = refused.problem(500, "storage_refused");
    assert_eq!(problem["retryable"], false);
    assert_eq!(refused.header("retry-after"), None);

    store.behave(&json!({}));
    is_ready(&api).await;
    let accepted = client
        .post_job("", "image/jpeg", fixtures::photo("cat.jpg"))
        .await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
}

#[tokio::test]
async fn a_store_that_nothing_listens_at_is_named_with_its_variable() {
    let stack = Stack::bare(&[]).await;
    let nowhere = format!("http://127.0.0.1:{}", local::free_port().unwrap());
    let api = stack.spawn_api(&[("AWS_ENDPOINT_URL_S3", nowhere.as_str())]);
    says_not_ready(&api, "check DARKROOM_S3_BUCKET and AWS_ENDPOINT_URL_S3").await;
    says_not_ready(&api, &nowhere).await;
}

#[tokio::test]
async fn an_api_without_rights_to_list_and_delete_works_and_health_names_the_rights() {
    let store = OwnStore::start().await;
    store.behave(&json!({"deny": ["list", "delete"]}));
    let env = store.env();
    let stack = Stack::bare(&borrowed(&env)).await;
    let (value, ok, advice) = health(&stack, "missing rights on the bucket").await;
    assert_eq!((value, ok), (2.0, false));
    assert!(
        advice.contains("s3:DeleteObject, s3:ListBucket"),
        "{advice}"
    );
    let (value, ok, _) = health(&stack, "processes without their bucket").await;
    assert_eq!((value, ok), (0.0, true));
}

#[tokio::test]
async fn a_store_that_refuses_checksum_headers_is_told_with_its_switch_and_works_with_it() {
    let store = OwnStore::start().await;
    store.behave(&json!({"refuse_checksums": true}));
    let stack = Stack::without_workers().await;
    let mut env = store.env();
    let api = stack.spawn_api(&borrowed(&env));
    says_not_ready(&api, "set DARKROOM_S3_CHECKSUMS=off").await;
    drop(api);
    env.push(("DARKROOM_S3_CHECKSUMS", "off".into()));
    let api = stack.another_api(&borrowed(&env)).await;
    let client = Client::new(&api.url, Some(stack.key().await));
    for photo in [fixtures::photo("cat.jpg"), spooled_photo()] {
        let accepted = client.post_job("", "image/jpeg", photo).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
    }
}

/// A photo that is too long for the memory of a request: the API puts it from a file.
fn spooled_photo() -> Vec<u8> {
    let photo = fixtures::photo("ladybird.jpg");
    let mut comment = vec![0xff, 0xfe, 0xff, 0xff];
    comment.resize(2 + 0xffff, 0);
    [&photo[..2], &comment.repeat(20), &photo[2..]].concat()
}

#[tokio::test]
async fn a_store_that_takes_other_bytes_is_recognized_and_no_job_is_accepted_over_them() {
    let store = OwnStore::start().await;
    store.behave(&json!({"ignore_checksums": true}));
    let env = store.env();
    let stack = Stack::without_workers_but(&borrowed(&env)).await;
    let warning = "does not check signed uploads";
    assert!(stack.api.log().contains(warning), "{}", stack.api.log());

    let photo = fixtures::photo("cat.jpg");
    let sha256 = Sha256Digest::of(&photo);
    let body = json!({"sha256": sha256, "bytes": photo.len(), "content_type": "image/jpeg"});
    let upload = stack.client.post_json("/v1/uploads", &body).await.json();
    let mut other = photo.clone();
    *other.last_mut().unwrap() ^= 1;
    let job = json!({"image": {"sha256": sha256}});
    assert_eq!(send(&upload, other).await, 200);
    let refused = stack.client.post_json("/v1/jobs", &job).await;
    refused.problem(404, "not_found");
    assert_eq!(send(&upload, photo).await, 200);
    let accepted = stack.client.post_json("/v1/jobs", &job).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
}

/// Sends these bytes as a signed upload.
async fn send(upload: &serde_json::Value, bytes: Vec<u8>) -> u16 {
    let mut request = reqwest::Client::new().put(upload["url"].as_str().unwrap());
    for (name, value) in upload["headers"].as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    request.body(bytes).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_worker_with_another_bucket_says_so_and_takes_no_job() {
    let stack = Stack::with_models().await;
    let job = stack.client.submit("", fixtures::photo("coffee.jpg")).await;
    let (other, _) = given::bucket().await;
    let worker = stack.spawn_worker("lost", &[("DARKROOM_S3_BUCKET", other.as_str())]);
    let said = "this worker's bucket is not the one of the API";
    says_not_ready(&worker, said).await;
    says_not_ready(
        &worker,
        &format!("the API put into bucket `{}`", stack.bucket()),
    )
    .await;
    let (value, ok, advice) = health(&stack, "processes without their bucket").await;
    assert_eq!((value, ok), (1.0, false));
    assert!(
        advice.starts_with(&format!("worker lost: {said}")),
        "{advice}"
    );
    let job = stack.client.job(job["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "queued", "{job:#}");
}

#[tokio::test]
async fn a_direct_push_into_another_bucket_is_refused() {
    let stack = Stack::bare(&[]).await;
    let (other, _) = given::bucket().await;
    let mut push = stack.command_line(&stack.key().await);
    push.args(["models", "push", "--direct", "--no-trial"])
        .arg(fixtures::model(fixtures::CLASSIFIER))
        .env("DARKROOM_S3_BUCKET", &other);
    let pushed = push.output().await.unwrap();
    let said = String::from_utf8_lossy(&pushed.stderr);
    assert_eq!(pushed.status.code(), Some(3), "{said}");
    assert!(
        said.contains("the bucket is not the one of the API"),
        "{said}"
    );
}

async fn delete_markers(store: &ObjectStore) -> usize {
    let markers = store.list("markers/", "", 10).await.unwrap();
    for marker in &markers {
        store.delete(&marker.key).await.unwrap();
    }
    markers.len()
}

#[tokio::test]
async fn an_api_with_another_bucket_says_so_until_it_is_told_to_adopt_it() {
    let stack = Stack::with_models().await;
    let (other, store) = given::bucket().await;
    let mut env = vec![("DARKROOM_S3_BUCKET", other.as_str())];
    let api = stack.spawn_api(&env);
    says_not_ready(&api, &format!("bucket `{other}`")).await;
    says_not_ready(&api, "is not the bucket of this database").await;
    assert_eq!(delete_markers(&store).await, 0);
    drop(api);
    env.push(("DARKROOM_S3_ADOPT_BUCKET", "true"));
    let _api = stack.another_api(&env).await;
    assert_eq!(delete_markers(&store).await, 1);
}

#[tokio::test]
async fn a_lost_marker_is_put_again_into_the_bucket_of_the_database() {
    let stack = Stack::with_models().await;
    assert_eq!(delete_markers(&stack.store).await, 1);
    let _api = stack.another_api(&[]).await;
    assert_eq!(delete_markers(&stack.store).await, 1);
}

#[tokio::test]
async fn a_check_leaves_no_object_behind() {
    let stack = Stack::bare(&[]).await;
    let left = stack.store.list("checks/", "", 10).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_endpoint_with_a_path_keeps_its_slash() {
    let stack = Stack::bare(&[]).await;
    // For the server the first part of the path is the bucket. So a worker that finds its marker there asked with the whole path.
    let (gate, behind) = given::bucket().await;
    let marker = stack.store.list("markers/", "", 1).await.unwrap().remove(0);
    let bytes = stack.store.get_beginning(&marker.key, 1000).await.unwrap();
    let key = format!("{}/{}", stack.bucket(), marker.key);
    let put = behind.put(
        &key,
        Body::Memory(&bytes),
        Sha256Digest::of(&bytes),
        "text/plain",
    );
    put.await.unwrap();
    let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
    let endpoint = format!("{}/{gate}", endpoint.trim_end_matches('/'));
    let _ready = stack
        .worker("w", &[("AWS_ENDPOINT_URL_S3", endpoint.as_str())])
        .await;
}
