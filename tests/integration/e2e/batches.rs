//! `/v1/batches`. The tests play the worker: they call the functions of the queue.

mod creating;
mod ending;
mod reading;
mod resuming;

use jobs::{Problem, ProblemCode, Sha256Digest};
use reqwest::Method;
use serde_json::Value;
use tests::{Client, Stack, client::send, fixtures, given};

fn batch_request(client: &Client, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    let request = client.request(Method::POST, "/v1/batches");
    request
        .header("Content-Type", "application/x-ndjson")
        .body(body)
}

fn ndjson(lines: &[Value]) -> String {
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

/// Stores a photo and returns its digest, in hex.
async fn store_image(stack: &Stack, photo: &str) -> String {
    let bytes = fixtures::photo(photo);
    stack.client.submit("", bytes.clone()).await;
    Sha256Digest::of(&bytes).hex()
}

async fn create_batch(stack: &Stack, lines: &[Value]) -> String {
    let answer = send(batch_request(&stack.client, ndjson(lines))).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn get_batch(stack: &Stack, id: &str) -> Value {
    let answer = stack.client.get(&format!("/v1/batches/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn get_results(stack: &Stack, id: &str, query: &str) -> Vec<Value> {
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

fn line_numbers(results: &[Value]) -> Vec<i64> {
    let lines = results.iter().map(|result| result["line"].as_i64());
    lines.map(Option::unwrap).collect()
}

async fn complete_next_job(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let done = tests::settling::complete(&stack.db, &[held.completion("cat")]).await;
    assert_eq!(done.unwrap().len(), 1);
}

async fn fail_next_job(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let problem = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    let failed = tests::settling::fail(&stack.db, &[(held.lease(), problem)]).await;
    failed.unwrap();
}

async fn wait_until_ended(stack: &Stack, id: &str) -> Value {
    let path = format!("/v1/batches/{id}");
    let request = stack.client.request(Method::GET, &path);
    let answer = send(request.header("Prefer", "wait=20")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let batch = answer.json();
    assert_ne!(batch["status"], "running", "{batch:#}");
    batch
}

async fn newest_job(stack: &Stack) -> jobs::JobId {
    let list = stack.client.get("/v1/jobs?limit=1").await.json();
    list["data"][0]["id"].as_str().unwrap().parse().unwrap()
}
