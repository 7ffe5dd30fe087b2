//! A store that lost objects, or returns other bytes: no attempt is charged, and the next upload heals the image.

use std::time::Duration;

use bytes::Bytes;
use jobs::{
    Sha256Digest,
    images::{self, Image},
    object_store::Body,
};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, client::send, eventually, fixtures, given};

/// What the store did to an object.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Lost,
    OtherBytes,
}

/// The stored image of this photo.
async fn stored(stack: &Stack, photo: &[u8]) -> Image {
    let sha256 = Sha256Digest::of(photo);
    let stored = given::stored(&stack.db, given::OWNER, sha256).await;
    stored.expect("the image is stored").image
}

async fn store(stack: &Stack, image: &Image, bytes: &[u8]) {
    let key = images::object_key(given::OWNER, image.sha256, image.upload);
    let (bytes, sha256) = (Bytes::copy_from_slice(bytes), Sha256Digest::of(bytes));
    let put = stack
        .store
        .put(&key, Body::Memory(&bytes), sha256, "image/jpeg");
    put.await.unwrap();
}

async fn damage(stack: &Stack, image: &Image, damage: Damage) {
    match damage {
        Damage::OtherBytes => store(stack, image, b"other bytes").await,
        Damage::Lost => {
            let key = images::object_key(given::OWNER, image.sha256, image.upload);
            stack.store.delete(&key).await.unwrap();
        }
    }
}

/// Waits until an attempt at the job was postponed. Returns the job and the attempt.
async fn postponed(stack: &Stack, id: &str) -> (Value, Value) {
    eventually(
        Duration::from_mins(1),
        "an attempt was postponed",
        || async {
            let job = stack.client.job(id).await;
            let attempts = job["attempts"]["items"].as_array().unwrap().clone();
            let is_postponed = |attempt: &Value| attempt["outcome"] == "postponed";
            let attempt = attempts.into_iter().find(is_postponed)?;
            Some((job, attempt))
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_over_a_lost_or_changed_image_waits_uncharged_for_the_next_upload() {
    let stack = Stack::with_models().await;
    let photos = [
        ("cat.jpg", Damage::Lost),
        ("coffee.jpg", Damage::OtherBytes),
    ];
    let mut jobs = Vec::new();
    for (name, kind) in photos {
        let photo = fixtures::photo(name);
        let job = stack.client.submit("", photo.clone()).await;
        jobs.push(job["id"].as_str().unwrap().to_owned());
        damage(&stack, &stored(&stack, &photo).await, kind).await;
    }
    let _worker = stack.worker("w", &[]).await;
    for job in &jobs {
        let (job, attempt) = postponed(&stack, job).await;
        assert_eq!(job["attempts"]["charged"], 0, "{job:#}");
        assert_eq!(attempt["charged"], false, "{attempt:#}");
        assert_eq!(attempt["error"]["code"], "service_unavailable");
    }
    for ((name, _), job) in photos.iter().zip(&jobs) {
        let photo = fixtures::photo(name);
        let again = stack.client.predicted("?top_k=2", photo.clone()).await;
        assert_eq!(again["attempts"]["charged"], 1);
        let first = stack.client.ended(job).await;
        assert_eq!(first["status"], "succeeded", "{first:#}");
        assert_eq!(first["attempts"]["charged"], 1, "{first:#}");
        let sha256 = Sha256Digest::of(&photo);
        let healed = given::stored(&stack.db, given::OWNER, sha256).await;
        assert_eq!(healed.unwrap().suspicion, None);
    }
}

/// Once the API has looked at the object, a job that names the image by its digest is refused.
#[tokio::test]
async fn a_lost_image_is_told_and_can_be_put_back_in_every_way() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let by_digest = json!({"image": {"sha256": Sha256Digest::of(&photo)}});
    let name = async || stack.client.post_json("/v1/jobs", &by_digest).await;
    let path = format!("/v1/images/{}", Sha256Digest::of(&photo));
    let post = async |path: &str, body: Vec<u8>| {
        send(stack.client.request(Method::POST, path).body(body)).await
    };
    assert_eq!(post("/v1/images", photo.clone()).await.status, 201);
    let image = stored(&stack, &photo).await;
    for way in ["image", "job", "signed upload", "batch", "operator"] {
        damage(&stack, &image, Damage::Lost).await;
        let content = stack.client.get(&format!("{path}/content")).await;
        content.problem(410, "data_purged");
        let refused = name().await;
        let problem = refused.problem(404, "not_found");
        assert_eq!(problem["errors"][0]["code"], "lost", "{way}: {problem:#}");
        match way {
            "image" => assert_eq!(post("/v1/images", photo.clone()).await.status, 200),
            "job" => {
                let answer = stack.client.post_job("", "image/jpeg", photo.clone()).await;
                assert_eq!(answer.status, 202, "{}", answer.text());
            }
            "batch" => {
                let encoded = base64::Engine::encode(
                    &base64::engine::general_purpose::STANDARD,
                    photo.as_slice(),
                );
                let line = json!({"image": {"data": encoded}}).to_string();
                let request = stack.client.request(Method::POST, "/v1/batches");
                let request = request.header("Content-Type", "application/x-ndjson");
                let batch = send(request.body(line)).await;
                assert!(matches!(batch.status, 200..300), "{}", batch.text());
                let queued = "select count(*) from live_jobs where batch_id is not null";
                eventually(Duration::from_secs(20), "the line is queued", || async {
                    let queued = sqlx::query_scalar(queued);
                    let queued: i64 = queued.fetch_one(&*stack.db).await.unwrap();
                    (queued == 1).then_some(())
                })
                .await;
            }
            "signed upload" => put_by_signed_url(&stack, &photo).await,
            _ => store(&stack, &image, &photo).await,
        }
        let taken = name().await;
        assert!(matches!(taken.status, 200 | 202), "{way}: {}", taken.text());
        assert_eq!(stored(&stack, &photo).await.upload, image.upload, "{way}");
        assert_eq!(
            stack.client.get(&format!("{path}/content")).await.status,
            303
        );
    }
}

async fn put_by_signed_url(stack: &Stack, photo: &[u8]) {
    let sha256 = Sha256Digest::of(photo);
    let body = json!({"sha256": sha256, "bytes": photo.len(), "content_type": "image/jpeg"});
    let upload = stack.client.post_json("/v1/uploads", &body).await;
    assert_eq!(upload.status, 201, "{}", upload.text());
    let upload = upload.json();
    let mut put = reqwest::Client::new().put(upload["url"].as_str().unwrap());
    for (name, value) in upload["headers"].as_object().unwrap() {
        put = put.header(name, value.as_str().unwrap());
    }
    let put = put.body(photo.to_vec()).send().await.unwrap();
    assert_eq!(put.status().as_u16(), 200);
}

/// The worker could as well have another bucket: both look alike to the worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_bucket_lacks_many_images_says_so_and_charges_no_job() {
    let stack = Stack::with_models().await;
    let photos: Vec<_> = (0..3_u8)
        .map(|nth| {
            let mut photo = fixtures::photo("ladybird.jpg");
            photo.push(nth);
            photo
        })
        .collect();
    let mut jobs = Vec::new();
    for photo in &photos {
        let job = stack.client.submit("", photo.clone()).await;
        jobs.push(job["id"].as_str().unwrap().to_owned());
        damage(&stack, &stored(&stack, photo).await, Damage::Lost).await;
    }
    let worker = stack
        .worker("w", &[("DARKROOM_STORE_FAULTS_MAX", "2")])
        .await;
    let faults = async || -> f64 {
        let value = "select value from ops.health where name = 'workers without their images'";
        let value = sqlx::query_scalar(value).fetch_one(&*stack.db);
        value.await.unwrap()
    };
    eventually(
        Duration::from_secs(30),
        "ops.health names the worker",
        || async { (faults().await > 0.0).then_some(()) },
    )
    .await;
    let fault: String = sqlx::query_scalar("select store_fault from ops.workers")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert!(fault.contains("2 objects in a row are missing"), "{fault}");
    assert!(worker.log().contains("check DARKROOM_S3_BUCKET"));
    for photo in &photos {
        store(&stack, &stored(&stack, photo).await, photo).await;
    }
    for job in &jobs {
        let job = stack.client.ended(job).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
        assert_eq!(job["attempts"]["charged"], 1, "{job:#}");
    }
    eventually(
        Duration::from_secs(30),
        "ops.health is well again",
        || async { (faults().await < 1.0).then_some(()) },
    )
    .await;
}
