//! `/v1/batches`. The test itself plays the worker, by the verbs of the queue.

mod ending;
mod going_on;
mod reading;
mod taking;

use jobs::{Problem, ProblemCode, Sha256Digest};
use reqwest::Method;
use serde_json::Value;
use tests::{Client, Stack, client::send, fixtures, given};

fn batch(client: &Client, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    let request = client.request(Method::POST, "/v1/batches");
    request
        .header("Content-Type", "application/x-ndjson")
        .body(body)
}

fn ndjson(lines: &[Value]) -> String {
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

/// An image that is there already.
async fn stored(stack: &Stack, photo: &str) -> String {
    let bytes = fixtures::photo(photo);
    stack.client.submit("", bytes.clone()).await;
    Sha256Digest::of(&bytes).hex()
}

async fn accepted(stack: &Stack, lines: &[Value]) -> String {
    let answer = send(batch(&stack.client, ndjson(lines))).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn get(stack: &Stack, id: &str) -> Value {
    let answer = stack.client.get(&format!("/v1/batches/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn results(stack: &Stack, id: &str, query: &str) -> Vec<Value> {
    let path = format!("/v1/batches/{id}/results{query}");
    let answer = stack.client.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = answer.text();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn numbers(results: &[Value]) -> Vec<i64> {
    let lines = results.iter().map(|result| result["line"].as_i64());
    lines.map(Option::unwrap).collect()
}

async fn one_succeeds(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let done = tests::settling::complete(&stack.db, &[held.completion("cat")]).await;
    assert_eq!(done.unwrap().len(), 1);
}

async fn one_fails(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let torn = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    let failed = tests::settling::fail(&stack.db, &[(held.lease(), torn)]).await;
    failed.unwrap();
}

async fn ended(stack: &Stack, id: &str) -> Value {
    let path = format!("/v1/batches/{id}");
    let request = stack.client.request(Method::GET, &path);
    let answer = send(request.header("Prefer", "wait=20")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let batch = answer.json();
    assert_ne!(batch["status"], "running", "{batch:#}");
    batch
}

async fn newest(stack: &Stack) -> jobs::JobId {
    let list = stack.client.get("/v1/jobs?limit=1").await.json();
    list["data"][0]["id"].as_str().unwrap().parse().unwrap()
}
