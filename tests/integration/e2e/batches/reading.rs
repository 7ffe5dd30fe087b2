//! What clients can read of a batch, and which clients can.

use jobs::keys::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, client::send, given};

use super::{create_batch, store_image};

#[tokio::test]
async fn an_unchanged_batch_answers_304_and_a_changed_one_200() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let id = create_batch(&stack, &[json!({"image": {"sha256": sha256}})]).await;
    let path = format!("/v1/batches/{id}");
    let first = stack.client.get(&path).await;
    let tag = first.header("etag").unwrap().to_owned();
    let ask = || {
        send(
            stack
                .client
                .request(Method::GET, &path)
                .header("If-None-Match", &tag),
        )
    };
    assert_eq!(ask().await.status, 304);
    given::claimed_by(&stack.db, "w").await;
    given::claimed_by(&stack.db, "w").await;
    let changed = ask().await;
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json()["counts"]["running"], 1);
}

/// Every request that waits would count the jobs of the batch once a second.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_one_batch_share_its_readings() {
    const WAITERS: u64 = 50;
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let id = create_batch(&stack, &[json!({"image": {"sha256": sha256}})]).await;
    let readings = async || -> u64 {
        let metrics = stack.api.metrics().await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("darkroom_batch_reads_total "));
        line.map_or(0, |count| count.parse().unwrap())
    };
    let before = readings().await;
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let path = format!("/v1/batches/{id}");
            let request = stack.client.request(Method::GET, &path);
            tokio::spawn(send(request.header("Prefer", "wait=5")))
        })
        .collect();
    for waiter in waiters {
        let answer = waiter.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["status"], "running");
    }
    // Each request reads once when it comes, fewer where several come at once. By itself each would read five times more.
    let read = readings().await - before;
    assert!(read <= WAITERS + 12, "{read} readings");
}

#[tokio::test]
async fn batches_are_listed_in_pages_newest_first_and_jobs_by_batch() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(create_batch(&stack, &[json!({"image": {"sha256": sha256}})]).await);
    }
    made.reverse();
    let ids = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap().iter();
        data.map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = stack.client.get("/v1/batches?limit=2").await;
    assert_eq!(ids(&first.json()), made[..2]);
    let link = first.header("link").unwrap();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    let last = stack.client.get(next).await.json();
    assert_eq!(ids(&last), made[2..]);
    assert_eq!(last["next_cursor"], Value::Null);

    let jobs = stack
        .client
        .get(&format!("/v1/jobs?batch_id={}", made[0]))
        .await
        .json();
    assert_eq!(jobs["data"].as_array().unwrap().len(), 1);
    assert_eq!(jobs["data"][0]["batch_id"], made[0]);
}

#[tokio::test]
async fn a_batch_of_another_owner_answers_404() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let id = create_batch(&stack, &[json!({"image": {"sha256": sha256}})]).await;
    let bob = stack.client_of("bob", &[Scope::Submit, Scope::Read]).await;
    let path = format!("/v1/batches/{id}");
    bob.get(&path).await.problem(404, "not_found");
    bob.get(&format!("{path}/results"))
        .await
        .problem(404, "not_found");
    for verb in ["cancel", "retry_failed"] {
        let refused = bob.post_json(&format!("{path}/{verb}"), &json!({})).await;
        refused.problem(404, "not_found");
    }
    assert_eq!(bob.get("/v1/batches").await.json()["data"], json!([]));
    let jobs = bob.get(&format!("/v1/jobs?batch_id={id}")).await.json();
    assert_eq!(jobs["data"], json!([]));
}
