//! `Idempotency-Key`: a client that got no answer can safely send its request again.

use jobs::Sha256Digest;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
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

async fn count_jobs(stack: &Stack) -> usize {
    let list: Value = stack.client.get("/v1/jobs").await.json();
    list["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_repeated_request_under_one_key_is_one_job() {
    let stack = Stack::without_workers().await;
    let first = send(submit(&stack.client, "k1", "?top_k=3", "coffee.jpg")).await;
    let again = send(submit(&stack.client, "\"k1\"", "?top_k=3", "coffee.jpg")).await;
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(id(&first), id(&again));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(count_jobs(&stack).await, 1);
}

#[tokio::test]
async fn another_request_under_a_used_key_is_refused() {
    let stack = Stack::without_workers().await;
    send(submit(&stack.client, "k1", "?top_k=3", "coffee.jpg")).await;
    for (query, photo) in [("?top_k=4", "coffee.jpg"), ("?top_k=3", "cat.jpg")] {
        let refused = send(submit(&stack.client, "k1", query, photo)).await;
        refused.problem(422, "idempotency_key_reused");
    }
    assert_eq!(count_jobs(&stack).await, 1);
}

/// The first answer was lost, and the deadline has passed when the client sends its request again. The job exists.
#[tokio::test]
async fn a_request_repeated_after_its_deadline_gets_its_first_answer() {
    let stack = Stack::without_workers().await;
    let late = "?deadline=2020-01-01T00:00:00Z";
    let first = send(submit(&stack.client, "k1", "", "coffee.jpg")).await;
    let other = send(submit(&stack.client, "k1", late, "coffee.jpg")).await;
    other.problem(422, "idempotency_key_reused");

    // As if the first request had come with this deadline, in time.
    let request = json!({
        "model": null, "params": {}, "priority": 0, "metadata": {}, "run_at": null,
        "deadline": "2020-01-01T00:00:00Z", "max_attempts": null, "retain_for": null,
        "image": Sha256Digest::of(&fixtures::photo("coffee.jpg")),
    });
    let fingerprint = Sha256Digest::of(request.to_string().as_bytes());
    let in_time = sqlx::query("update idempotency_keys set fingerprint = $1 where key = 'k1'");
    let in_time = in_time.bind(fingerprint.as_bytes().as_slice());
    in_time.execute(&*stack.db).await.unwrap();
    let again = send(submit(&stack.client, "k1", late, "coffee.jpg")).await;
    assert_eq!(again.status, 202, "{}", again.text());
    assert_eq!(id(&again), id(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    let under_new_key = send(submit(&stack.client, "k2", late, "coffee.jpg")).await;
    under_new_key.problem_at(422, "invalid_params", "/deadline");
    assert_eq!(count_jobs(&stack).await, 1);
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
    assert_eq!(count_jobs(&stack).await, 1);
}

#[tokio::test]
async fn owners_do_not_share_idempotency_keys() {
    let stack = Stack::without_workers().await;
    let other = stack
        .client_of("somebody-else", &[jobs::keys::Scope::Submit])
        .await;
    let mine = send(submit(&stack.client, "k1", "", "coffee.jpg")).await;
    let theirs = send(submit(&other, "k1", "", "cat.jpg")).await;
    assert_eq!((mine.status, theirs.status), (202, 202));
    assert_ne!(id(&mine), id(&theirs));
}
