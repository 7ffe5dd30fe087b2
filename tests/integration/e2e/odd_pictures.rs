//! Every picture of `fixtures/inputs` ends as its manifest says, whichever way it is submitted.
//!
//! Phones, scanners and editors write such pictures (docs/images.md). Each test sends all of them and lists all faults.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use jobs::Sha256Digest;
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use tests::{
    Answer, Client, Stack,
    client::send,
    fixtures,
    odd_pictures::{self, Ending, Endings, OddPicture, TOP_K},
    stack::Running,
};

use super::clients::ClientRunner;

/// Requests at the same time.
const CONCURRENCY: usize = 8;

/// The formats that a stack of [`start`] accepts.
const ALL_FORMATS: &str = "jpeg,png,webp,gif,bmp,tiff";

async fn start() -> (Stack, Running) {
    let stack = Stack::with_models().await;
    let worker = stack.worker("w", &[]).await;
    (stack, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_picture_ends_as_expected_when_it_is_the_body_of_a_submit() {
    let (stack, worker) = start().await;
    let pictures = odd_pictures::all();
    let endings = submit_as_bodies(&stack.client, &pictures).await;
    odd_pictures::assert_as_expected(&pictures, &endings);
    assert!(worker.is_running() && stack.api.is_running());
}

/// The store accepts any bytes. The API reads the header when a job names the image.
#[tokio::test(flavor = "multi_thread")]
async fn every_odd_picture_ends_as_expected_after_a_presigned_upload() {
    let (stack, worker) = start().await;
    let client = &stack.client;
    let pictures = odd_pictures::all();
    let answers = for_each(&pictures, async |picture| {
        let image = put_into_the_store(client, picture).await;
        let body = json!({"image": {"sha256": image}, "params": {"top_k": TOP_K}});
        client.post_json("/v1/jobs", &body).await
    });
    let endings = endings(client, answers.await).await;
    odd_pictures::assert_as_expected(&pictures, &endings);
    assert!(worker.is_running() && stack.api.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_picture_ends_as_expected_in_a_batch_that_is_a_form() {
    let (stack, worker) = start().await;
    let pictures = odd_pictures::all();
    let job = json!({"params": {"top_k": TOP_K}});
    let mut form = multipart::Form::new().text("job", job.to_string());
    for picture in &pictures {
        let part = multipart::Part::bytes(picture.bytes.clone()).file_name(picture.file.clone());
        let part = part.mime_str(declared_type(&picture.file)).unwrap();
        form = form.part("image", part);
    }
    let request = stack.client.request(Method::POST, "/v1/batches");
    let made = send(request.multipart(form)).await;
    let endings = endings_of_batch(&stack.client, &made).await;
    odd_pictures::assert_as_expected(&pictures, &endings);
    assert!(worker.is_running() && stack.api.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_picture_ends_as_expected_in_a_batch_of_digests() {
    let (stack, worker) = start().await;
    let client = &stack.client;
    let pictures = odd_pictures::all();
    let lines = for_each(&pictures, async |picture| {
        let image = put_into_the_store(client, picture).await;
        let params = json!({"top_k": TOP_K});
        json!({"custom_id": picture.file, "image": {"sha256": image}, "params": params})
    });
    let lines = lines.await.into_values().map(|line| format!("{line}\n"));
    let request = client.request(Method::POST, "/v1/batches");
    let request = request.header("Content-Type", "application/x-ndjson");
    let made = send(request.body(lines.collect::<String>())).await;
    let endings = endings_of_batch(client, &made).await;
    odd_pictures::assert_as_expected(&pictures, &endings);
    assert!(worker.is_running() && stack.api.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_picture_ends_as_expected_through_the_python_client() {
    let runner = ClientRunner::new("python").await;
    let program = "tests/integration/e2e/odd_pictures/submit.py";
    let folder = fixtures::folder().join("inputs").display().to_string();
    let top_k = TOP_K.to_string();
    let run = runner.python(&[program, &folder, &top_k]).await;
    let lines = String::from_utf8(run.stdout).unwrap();
    let ending = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let ending = match line["job"].take() {
            Value::Null => Ending::Refused(line["problem"].take()),
            job => Ending::Ended(job),
        };
        (line["file"].as_str().unwrap().to_owned(), ending)
    };
    let endings = lines.lines().map(ending).collect();
    odd_pictures::assert_as_expected(&odd_pictures::all(), &endings);
}

#[tokio::test(flavor = "multi_thread")]
async fn bmp_and_tiff_pictures_end_as_expected_where_both_formats_are_on() {
    let stack = Stack::bare(&[("DARKROOM_IMAGE_TYPES", ALL_FORMATS)]).await;
    stack.push_models().await;
    let worker = stack
        .worker("w", &[("DARKROOM_FORMATS", ALL_FORMATS)])
        .await;
    let pictures = odd_pictures::with_bmp_and_tiff();
    let endings = submit_as_bodies(&stack.client, &pictures).await;
    odd_pictures::assert_as_expected(&pictures, &endings);
    assert!(worker.is_running() && stack.api.is_running());
}

async fn submit_as_bodies(client: &Client, pictures: &[OddPicture]) -> Endings {
    let query = format!("?top_k={TOP_K}");
    let answers = for_each(pictures, async |picture| {
        let bytes = picture.bytes.clone();
        let declared = declared_type(&picture.file);
        client.post_job(&query, declared, bytes).await
    });
    endings(client, answers.await).await
}

/// The outputs of `work` by the names of the files.
async fn for_each<'a, T>(
    pictures: &'a [OddPicture],
    work: impl AsyncFn(&'a OddPicture) -> T,
) -> BTreeMap<String, T> {
    let work = &work;
    stream::iter(pictures)
        .map(|picture| async move { (picture.file.clone(), work(picture).await) })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await
}

/// The type that a client declares, by the name of the file alone: wrong for some pictures.
fn declared_type(file: &str) -> &'static str {
    match file.rsplit('.').next().unwrap() {
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "tif" => "image/tiff",
        "heic" => "image/heic",
        "ico" => "image/x-icon",
        _ => "image/jpeg",
    }
}

/// Puts a picture into the object store by a signed URL. Returns the digest to name.
async fn put_into_the_store(client: &Client, picture: &OddPicture) -> String {
    let bytes = picture.bytes.clone();
    let sha256 = Sha256Digest::of(&bytes);
    // Only types that the service accepts are signed.
    let body = json!({"sha256": sha256, "bytes": bytes.len(), "content_type": "image/jpeg"});
    let upload = client.post_json("/v1/uploads", &body).await.json();
    // Some files have equal bytes, so the image may be stored already.
    if upload["stored"] == false {
        let mut request = reqwest::Client::new().put(upload["url"].as_str().unwrap());
        for (name, value) in upload["headers"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        let stored = send(request.body(bytes)).await;
        assert_eq!(stored.status, 200, "{}: {}", picture.file, stored.text());
    }
    sha256.to_string()
}

/// Waits until the jobs of the accepted submits have ended.
async fn endings(client: &Client, answers: BTreeMap<String, Answer>) -> Endings {
    let mut endings = Endings::new();
    for (file, answer) in answers {
        endings.insert(file, odd_pictures::ending(client, &answer).await);
    }
    endings
}

/// Waits until the batch has ended.
async fn endings_of_batch(client: &Client, made: &Answer) -> Endings {
    assert_eq!(made.status, 202, "{}", made.text());
    let made = made.json();
    let path = format!("/v1/batches/{}", made["id"].as_str().unwrap());
    let wait = client
        .request(Method::GET, &path)
        .header("Prefer", "wait=60");
    let batch = send(wait).await.json();
    assert_ne!(batch["status"], "running", "{batch:#}");
    let results = client.get(&format!("{path}/results")).await.text();
    let ending = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let ending = match line["job"].take() {
            Value::Null => Ending::Refused(line["error"].take()),
            job => Ending::Ended(job),
        };
        (line["custom_id"].as_str().unwrap().to_owned(), ending)
    };
    results.lines().map(ending).collect()
}
