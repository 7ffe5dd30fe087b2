//! `Idempotency-Key`: a client that does not know whether it was heard asks again.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tests::{Answer, Client, Stack, client::send, fixtures};

fn submit(client: &Client, key: &str, query: &str, photo: &str) -> RequestBuilder {
    client
        .request(Method::POST, &format!("/v1/jobs{query}"))
        .header("Idempotency-Key", key)
        .body(fixtures::photo(photo))
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn count(stack: &Stack) -> usize {
    let list: Value = stack.client.get("/v1/jobs").await.json();
    list["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_same_request_under_one_key_is_one_job() {
    let stack = Stack::without_workers().await;
    let first = send(submit(&stack.client, "k1", "?top_k=3", "coffee.jpg")).await;
    let again = send(submit(&stack.client, "\"k1\"", "?top_k=3", "coffee.jpg")).await;
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(id(&first), id(&again));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(count(&stack).await, 1);
}

#[tokio::test]
async fn another_request_under_a_used_key_is_refused() {
    let stack = Stack::without_workers().await;
    send(submit(&stack.client, "k1", "?top_k=3", "coffee.jpg")).await;
    for (query, photo) in [("?top_k=4", "coffee.jpg"), ("?top_k=3", "cat.jpg")] {
        let refused = send(submit(&stack.client, "k1", query, photo)).await;
        refused.problem(422, "idempotency_key_reused");
    }
    assert_eq!(count(&stack).await, 1);
}

#[tokio::test]
async fn a_hundred_requests_at_once_under_one_key_are_one_job() {
    let stack = Stack::without_workers().await;
    let requests = (0..100).map(|_| {
        let request = submit(&stack.client, "rush", "", "coffee.jpg");
        tokio::spawn(send(request))
    });
    let mut ids = std::collections::BTreeSet::new();
    for request in requests.collect::<Vec<_>>() {
        let answer = request.await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        ids.insert(id(&answer));
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(count(&stack).await, 1);
}

#[tokio::test]
async fn owners_do_not_share_keys() {
    let stack = Stack::without_workers().await;
    let other = stack
        .client_of("somebody-else", &[jobs::keys::Scope::Submit])
        .await;
    let mine = send(submit(&stack.client, "k1", "", "coffee.jpg")).await;
    let theirs = send(submit(&other, "k1", "", "cat.jpg")).await;
    assert_eq!((mine.status, theirs.status), (202, 202));
    assert_ne!(id(&mine), id(&theirs));
}
