//! A client sends a batch again: after a response, and after a broken upload.

use std::time::Duration;

use reqwest::{Method, multipart};
use serde_json::json;
use tests::{Answer, Stack, client::send, fixtures};

use super::{batch_request, get_batch, ndjson, store_image};

fn request_with_key(stack: &Stack, key: &str, body: String) -> reqwest::RequestBuilder {
    batch_request(&stack.client, body).header("Idempotency-Key", key)
}

fn batch_id(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_batch_sent_again_with_its_key_is_one_batch() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let line = json!({"image": {"sha256": sha256}});
    let body = ndjson(&vec![line.clone(); 3]);
    let first = send(request_with_key(&stack, "k", body.clone())).await;
    let again = send(request_with_key(&stack, "k", body.clone())).await;
    assert_eq!(batch_id(&first), batch_id(&again));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json()["counts"]["total"], 3);

    for other in [
        ndjson(&vec![line.clone(); 2]),
        ndjson(&vec![line; 4]),
        "x\n".repeat(3),
    ] {
        let refused = send(request_with_key(&stack, "k", other)).await;
        refused.problem(422, "idempotency_key_reused");
    }
    let job = stack
        .client
        .request(Method::POST, "/v1/jobs")
        .header("Idempotency-Key", "k");
    let refused = send(job.body(fixtures::photo("cat.jpg"))).await;
    refused.problem(422, "idempotency_key_reused");
    assert_eq!(
        get_batch(&stack, &batch_id(&first)).await["counts"]["total"],
        3
    );
}

/// The deadline may pass before the client sends the form again; the API still returns the batch.
#[tokio::test]
async fn a_form_sent_again_after_its_deadline_returns_its_batch() {
    let stack = Stack::without_workers().await;
    let job = json!({"deadline": "2020-01-01T00:00:00Z"}).to_string();
    let post = |image: Vec<u8>| {
        let form = multipart::Form::new().text("job", job.clone());
        let form = form.part("image", multipart::Part::bytes(image));
        let request = stack.client.request(Method::POST, "/v1/batches");
        request.multipart(form)
    };
    let keyed = || post(fixtures::photo("cat.jpg")).header("Idempotency-Key", "k");
    let first = send(keyed()).await;
    let again = send(keyed()).await;
    assert_eq!(batch_id(&again), batch_id(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let counts = &get_batch(&stack, &batch_id(&first)).await["counts"];
    assert_eq!(
        (&counts["queued"], &counts["refused"]),
        (&json!(0), &json!(1)),
        "the first form was late, too"
    );
    // Without a key there is no earlier batch: the form is refused before its images are read.
    let refused = send(post(b"any".to_vec())).await;
    refused.problem_at(422, "invalid_params", "/deadline");
}

/// The client, the API process or the network failed during the upload. The client sends the upload again.
#[tokio::test]
async fn a_broken_upload_resumes_after_its_last_stored_line() {
    let stack = Stack::without_workers_but(&[("DARKROOM_BATCH_CHUNK_LINES", "2")]).await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let lines: Vec<_> = (1..=7)
        .map(|n| json!({"custom_id": n.to_string(), "image": {"sha256": sha256}}))
        .collect();
    let (whole, half) = (ndjson(&lines), ndjson(&lines[..5]));
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async {
        let chunk: Option<std::io::Result<String>> = receiver.recv().await;
        chunk.map(|chunk| (chunk, receiver))
    });
    let broken =
        request_with_key(&stack, "k", String::new()).body(reqwest::Body::wrap_stream(body));
    let broken = tokio::spawn(broken.send());
    sender.send(Ok(half)).await.unwrap();
    tests::eventually(Duration::from_secs(10), "four lines are stored", || async {
        let lines: Option<i32> = sqlx::query_scalar("select lines from batches")
            .fetch_optional(&*stack.db)
            .await
            .unwrap();
        (lines >= Some(4)).then_some(())
    })
    .await;
    let error = std::io::Error::other("the connection broke");
    sender.send(Err(error)).await.unwrap();
    assert!(broken.await.unwrap().is_err());
    send(request_with_key(&stack, "k", whole.clone()))
        .await
        .problem(409, "idempotency_in_flight");
    sqlx::query("update batches set heard_at = now() - interval '1 hour'")
        .execute(&*stack.db)
        .await
        .unwrap();
    let rest = send(request_with_key(&stack, "k", whole)).await;
    let made = get_batch(&stack, &batch_id(&rest)).await;
    assert_eq!(
        (&made["counts"]["total"], &made["counts"]["queued"]),
        (&json!(7), &json!(7))
    );
    let distinct: i64 = sqlx::query_scalar(
        "select count(distinct batch_line) from live_jobs where batch_id is not null",
    )
    .fetch_one(&*stack.db)
    .await
    .unwrap();
    assert_eq!(distinct, 7);
}
