//! What is told of a batch, to whom.

use jobs::keys::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, client::send, given};

use super::{accepted, stored};

#[tokio::test]
async fn an_unchanged_batch_answers_304_and_a_changed_one_200() {
    let stack = Stack::without_workers().await;
    let sha256 = stored(&stack, "cat.jpg").await;
    let id = accepted(&stack, &[json!({"image": {"sha256": sha256}})]).await;
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

#[tokio::test]
async fn batches_are_listed_newest_first_page_by_page_and_their_jobs_by_id() {
    let stack = Stack::without_workers().await;
    let sha256 = stored(&stack, "cat.jpg").await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(accepted(&stack, &[json!({"image": {"sha256": sha256}})]).await);
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
async fn another_owners_batch_does_not_exist() {
    let stack = Stack::without_workers().await;
    let sha256 = stored(&stack, "cat.jpg").await;
    let id = accepted(&stack, &[json!({"image": {"sha256": sha256}})]).await;
    let bob = stack.client_of("bob", &[Scope::Submit, Scope::Read]).await;
    let here = format!("/v1/batches/{id}");
    bob.get(&here).await.problem(404, "not_found");
    bob.get(&format!("{here}/results"))
        .await
        .problem(404, "not_found");
    for verb in ["cancel", "retry_failed"] {
        let refused = bob.post_json(&format!("{here}/{verb}"), &json!({})).await;
        refused.problem(404, "not_found");
    }
    assert_eq!(bob.get("/v1/batches").await.json()["data"], json!([]));
    let jobs = bob.get(&format!("/v1/jobs?batch_id={id}")).await.json();
    assert_eq!(jobs["data"], json!([]));
}
