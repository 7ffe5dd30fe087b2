//! `POST /v1/jobs`: three forms of a submit make equal jobs.

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::{Sha256Digest, images};
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use tests::{Stack, client::send, fixtures, given};

/// The fields of a job that do not depend on the form of the submit.
fn requested_fields(job: &Value) -> Value {
    let fields = [
        "model",
        "resolved_model",
        "input",
        "params",
        "priority",
        "metadata",
        "attempts",
    ];
    fields
        .iter()
        .map(|field| (*field, job[*field].clone()))
        .collect()
}

#[tokio::test]
async fn raw_multipart_and_json_submits_make_equal_jobs() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let query = "?model=efficientnet-lite0&top_k=3&priority=7&max_attempts=2&metadata.listing=8841";
    let raw = stack
        .client
        .post_job(query, "image/jpeg", photo.clone())
        .await;
    assert_eq!(raw.status, 202, "{}", raw.text());

    let job = json!({"model": "efficientnet-lite0", "params": {"top_k": 3}, "priority": 7, "max_attempts": 2,
                     "metadata": {"listing": "8841"}});
    let form = multipart::Form::new()
        .part(
            "image",
            multipart::Part::bytes(photo.clone()).file_name("../../cat.jpg"),
        )
        .part("job", multipart::Part::text(job.to_string()));
    let form = send(
        stack
            .client
            .request(Method::POST, "/v1/jobs")
            .multipart(form),
    )
    .await;
    assert_eq!(form.status, 202, "{}", form.text());

    let mut inline = job.clone();
    inline["image"] = json!({"data": STANDARD.encode(&photo)});
    let inline = stack.client.post_json("/v1/jobs", &inline).await;
    assert_eq!(inline.status, 202, "{}", inline.text());

    let mut named = job;
    named["image"] = json!({"sha256": Sha256Digest::of(&photo).hex()});
    let named = stack.client.post_json("/v1/jobs", &named).await;
    assert_eq!(named.status, 202, "{}", named.text());

    let first = raw.json();
    assert_eq!(first["input"]["content_type"], "image/jpeg");
    assert_eq!(first["params"], json!({"top_k": 3}));
    for other in [form, inline, named] {
        assert_eq!(requested_fields(&other.json()), requested_fields(&first));
        assert_ne!(other.json()["id"], first["id"]);
    }
}

#[tokio::test]
async fn an_accepted_job_can_be_read_at_its_location_at_once() {
    let stack = Stack::without_workers().await;
    let answer = stack
        .client
        .post_job("", "application/octet-stream", fixtures::photo("cat.jpg"))
        .await;
    assert_eq!(answer.status, 202);
    let job = answer.json();
    let id = job["id"].as_str().unwrap();
    assert!(id.starts_with("job_"));
    let location_path = format!("/v1/jobs/{id}");
    assert_eq!(answer.header("location"), Some(location_path.as_str()));
    assert!(
        answer
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            >= 1
    );
    let tag = answer.header("etag").unwrap();
    assert_eq!(tag, format!("\"{}\"", job["version"]));
    let found = stack.client.get(&location_path).await;
    assert_eq!(found.json(), job, "POST and GET show equal jobs");
    assert_eq!(found.header("etag"), Some(tag));
    assert_eq!(job["status"], "queued");
    assert_eq!(
        job["model"], "efficientnet-lite0@default",
        "the full name of the default model"
    );
}

/// I7: 202 implies that the object is in S3 with the recorded size and SHA-256.
#[tokio::test]
async fn accepted_small_and_large_images_are_in_the_object_store() {
    let stack = Stack::without_workers().await;
    let small = fixtures::photo("cat.jpg");
    // Larger than what the API keeps in memory: a JPEG with two megabytes after its end.
    let mut large = fixtures::photo("ladybird.jpg");
    large.resize(large.len() + 2_000_000, 0);
    for photo in [small, large] {
        let sha256 = Sha256Digest::of(&photo);
        let job = stack.client.submit("", photo.clone()).await;
        assert_eq!(job["input"]["image"], sha256.to_string());
        assert_eq!(job["input"]["bytes"], photo.len());
        let stored = given::stored(&stack.db, given::OWNER, sha256).await;
        let key = images::object_key(given::OWNER, sha256, stored.unwrap().image.upload);
        assert_eq!(stack.store.get(&key, sha256).await.unwrap(), photo);
    }
}

#[tokio::test]
async fn the_bytes_and_not_the_header_decide_the_content_type() {
    let stack = Stack::without_workers().await;
    let answer = stack
        .client
        .post_job("", "image/jpeg", fixtures::photo("cat.webp"))
        .await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["input"]["content_type"], "image/webp");
}

#[tokio::test]
async fn a_submit_names_its_model_by_alias_version_or_digest() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let by_name = stack
        .client
        .submit("?model=efficientnet-lite0", photo.clone())
        .await;
    let resolved = &by_name["resolved_model"];
    let digest = resolved["digest"].as_str().unwrap();
    for reference in [
        "efficientnet-lite0@default".to_owned(),
        "efficientnet-lite0:1".to_owned(),
        format!("efficientnet-lite0@{digest}"),
    ] {
        let job = stack
            .client
            .submit(&format!("?model={reference}"), photo.clone())
            .await;
        assert_eq!(&job["resolved_model"], resolved, "{reference}");
        assert_eq!(job["model"], reference);
    }
}

#[tokio::test]
async fn a_job_with_a_later_run_at_is_scheduled() {
    let stack = Stack::without_workers().await;
    let tomorrow = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let photo = STANDARD.encode(fixtures::photo("cat.jpg"));
    let body = json!({"image": {"data": photo}, "run_at": tomorrow, "deadline": tomorrow + chrono::TimeDelta::days(1), "retain_for": "P7D"});
    let answer = stack.client.post_json("/v1/jobs", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let job = answer.json();
    assert_eq!(job["status"], "scheduled");
    assert_eq!(job["status_reason"], "waiting_for_run_at");
}

/// Promise 1: an acknowledged job survives a killed API process.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_jobs_survive_a_killed_api() {
    let mut stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let submitters = (0..8).map(|_| {
        let (client, photo) = (stack.client.clone(), photo.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let request = client.request(Method::POST, "/v1/jobs").body(photo.clone());
                match request.header("Content-Type", "image/jpeg").send().await {
                    Ok(answer) if answer.status() == 202 => {
                        let location = answer.headers()["location"].to_str().unwrap().to_owned();
                        acknowledged.push(location);
                    }
                    _ => return acknowledged,
                }
            }
        })
    });
    let submitters: Vec<_> = submitters.collect();
    tests::eventually(
        std::time::Duration::from_secs(30),
        "twenty jobs are queued",
        || async {
            let queued: i64 = sqlx::query_scalar("select count(*) from live_jobs")
                .fetch_one(&*stack.db)
                .await
                .unwrap();
            (queued >= 20).then_some(())
        },
    )
    .await;
    stack.replace_killed_api().await;
    let mut acknowledged = Vec::new();
    for submitter in submitters {
        acknowledged.extend(submitter.await.unwrap());
    }
    assert!(!acknowledged.is_empty());
    for location in acknowledged {
        assert_eq!(
            stack.client.get(&location).await.status,
            200,
            "{location} is lost"
        );
    }
}
