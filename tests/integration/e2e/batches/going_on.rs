//! The same upload again: after an answer, and after a break.

use std::time::Duration;

use reqwest::{Method, multipart};
use serde_json::json;
use tests::{Answer, Stack, client::send, fixtures};

use super::{batch, get, ndjson, stored};

fn keyed(stack: &Stack, key: &str, body: String) -> reqwest::RequestBuilder {
    batch(&stack.client, body).header("Idempotency-Key", key)
}

fn id(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_same_batch_under_one_key_is_one_batch() {
    let stack = Stack::without_workers().await;
    let sha256 = stored(&stack, "cat.jpg").await;
    let line = json!({"image": {"sha256": sha256}});
    let body = ndjson(&vec![line.clone(); 3]);
    let first = send(keyed(&stack, "k", body.clone())).await;
    let again = send(keyed(&stack, "k", body.clone())).await;
    assert_eq!(id(&first), id(&again));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json()["counts"]["total"], 3);

    for other in [
        ndjson(&vec![line.clone(); 2]),
        ndjson(&vec![line; 4]),
        "x\n".repeat(3),
    ] {
        let refused = send(keyed(&stack, "k", other)).await;
        refused.problem(422, "idempotency_key_reused");
    }
    let job = stack
        .client
        .request(Method::POST, "/v1/jobs")
        .header("Idempotency-Key", "k");
    let refused = send(job.body(fixtures::photo("cat.jpg"))).await;
    refused.problem(422, "idempotency_key_reused");
    assert_eq!(get(&stack, &id(&first)).await["counts"]["total"], 3);
}

/// By then its deadline may have passed, which is no reason to refuse what was taken already.
#[tokio::test]
async fn a_form_that_comes_again_after_its_deadline_is_the_batch_it_was() {
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
    assert_eq!(id(&again), id(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let counts = &get(&stack, &id(&first)).await["counts"];
    assert_eq!(
        (&counts["queued"], &counts["refused"]),
        (&json!(0), &json!(1)),
        "it was late the first time, too"
    );
    // Without a key it was never taken, and is refused before its images.
    let refused = send(post(b"any".to_vec())).await;
    refused.problem_at(422, "invalid_params", "/deadline");
}

/// Its client, its process or the network died in the middle; the same upload again completes it.
#[tokio::test]
async fn an_upload_that_broke_off_goes_on_behind_its_last_line() {
    let stack = Stack::without_workers_but(&[("DARKROOM_BATCH_CHUNK_LINES", "2")]).await;
    let sha256 = stored(&stack, "cat.jpg").await;
    let lines: Vec<_> = (1..=7)
        .map(|n| json!({"custom_id": n.to_string(), "image": {"sha256": sha256}}))
        .collect();
    let (whole, half) = (ndjson(&lines), ndjson(&lines[..5]));
    let (cable, other_end) = tokio::sync::mpsc::channel(1);
    let body = futures_util::stream::unfold(other_end, |mut other_end| async {
        let came: Option<std::io::Result<String>> = other_end.recv().await;
        came.map(|came| (came, other_end))
    });
    let broken = keyed(&stack, "k", String::new()).body(reqwest::Body::wrap_stream(body));
    let broken = tokio::spawn(broken.send());
    cable.send(Ok(half)).await.unwrap();
    tests::eventually(Duration::from_secs(10), "four lines were taken", || async {
        let lines: Option<i32> = sqlx::query_scalar("select lines from batches")
            .fetch_optional(&*stack.db)
            .await
            .unwrap();
        (lines >= Some(4)).then_some(())
    })
    .await;
    let pulled = std::io::Error::other("the cable was pulled");
    cable.send(Err(pulled)).await.unwrap();
    assert!(broken.await.unwrap().is_err());
    send(keyed(&stack, "k", whole.clone()))
        .await
        .problem(409, "idempotency_in_flight");
    sqlx::query("update batches set heard_at = now() - interval '1 hour'")
        .execute(&*stack.db)
        .await
        .unwrap();
    let rest = send(keyed(&stack, "k", whole)).await;
    let made = get(&stack, &id(&rest)).await;
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
