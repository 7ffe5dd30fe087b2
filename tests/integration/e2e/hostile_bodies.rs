//! Bodies that cost more than their bytes, and many bodies that never end.

use std::{fmt::Write as _, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::select_all;
use jobs::keys::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Stack, client::send, eventually, fixtures, given};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Most memory that one request may add, in MiB.
const REQUEST_MIB_MAX: u64 = 100;

/// JSON of 26 MB in a shape whose tree needs a hundred times as much memory.
fn costly_json() -> String {
    let objects = r#"{"":0},"#.repeat(26_000_000 / 7);
    format!(r#"{{"custom_id":"a","metadata":{{"a":[{objects}0]}}}}"#)
}

#[tokio::test]
async fn json_that_is_no_image_costs_no_more_than_it_may() {
    let stack = Stack::without_workers().await;
    let before = stack.api.memory_peak_mib();
    let json = costly_json().replace(r#""custom_id":"a","#, "");
    let request = stack.client.request(Method::POST, "/v1/jobs");
    let request = request.header("Content-Type", "application/json");
    // The answer comes while the client still sends. The client may see a closed connection instead.
    if let Ok(refused) = request.body(json).send().await {
        assert_eq!(refused.status(), 422);
    }
    let line = costly_json();
    let request = stack.client.request(Method::POST, "/v1/batches");
    let request = request.header("Content-Type", "application/x-ndjson");
    let taken = send(request.body(format!("{line}\n{line}\n"))).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    assert_eq!(taken.json()["counts"]["refused"], 2);
    let added = stack.api.memory_peak_mib() - before;
    assert!(added < REQUEST_MIB_MAX, "{added} MiB");
}

/// Each line is as large as a job may be, and all of them come in one chunk.
#[tokio::test]
async fn many_costly_lines_cost_no_more_than_they_may() {
    let stack = Stack::without_workers().await;
    let before = stack.api.memory_peak_mib();
    let metadata = format!("[{}0]", r#"{"":0},"#.repeat(9_000));
    let line = format!(
        r#"{{"image":{{"sha256":"{:064}"}},"metadata":{{"a":{metadata}}}}}"#,
        0
    );
    let mut lines = String::new();
    for _ in 0..100 {
        writeln!(lines, "{line}").unwrap();
    }
    let request = stack.client.request(Method::POST, "/v1/batches");
    let request = request.header("Content-Type", "application/x-ndjson");
    let taken = send(request.body(lines)).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    assert_eq!(taken.json()["counts"]["refused"], 100);
    let added = stack.api.memory_peak_mib() - before;
    assert!(added < REQUEST_MIB_MAX, "{added} MiB");
}

#[tokio::test]
async fn metadata_and_parameters_may_have_so_many_values() {
    let stack = Stack::without_workers_but(&[("DARKROOM_JOB_VALUES_MAX", "10")]).await;
    let image = json!({"data": STANDARD.encode(fixtures::photo("cat.jpg"))});
    let nested = json!({"a": [[[[1, 2, 3], 4], 5], 6]});
    let body = json!({"image": image, "metadata": nested});
    let taken = stack.client.post_json("/v1/jobs", &body).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    for field in ["metadata", "params"] {
        let mut body = json!({"image": image});
        body[field] = json!({"a": [[[[1, 2, 3], 4], 5], 6, 7]});
        let refused = stack.client.post_json("/v1/jobs", &body).await;
        refused.problem_at(422, "invalid_params", &format!("/{field}"));
    }
}

/// Sends a batch whose first line has begun and never ends: a photo in base64, and zeros behind it.
async fn begin_line(stack: &Stack, client: &Client, bytes: usize) -> TcpStream {
    let host = stack.api.url.trim_start_matches("http://");
    let request = client.request(Method::POST, "/v1/batches").build().unwrap();
    let key = request.headers()["authorization"].to_str().unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /v1/batches HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\nContent-Type: application/x-ndjson\r\nContent-Length: 20000000\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut image = fixtures::photo("cat.jpg");
    image.resize(bytes / 4 * 3, 0);
    let line = format!(r#"{{"image":{{"data":"{}"#, STANDARD.encode(image));
    // The API may close the connection meanwhile.
    let _ = socket.write_all(line.as_bytes()).await;
    socket
}

/// The beginning of the answer, in lower case.
async fn read_answer(mut socket: TcpStream) -> String {
    let mut answer = vec![0; 4096];
    let length = socket.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase()
}

#[tokio::test]
async fn unfinished_lines_of_one_key_have_a_budget_and_other_keys_go_on() {
    let stack = Stack::without_workers_but(&[
        ("DARKROOM_KEY_BODIES_BYTES_MAX", "10000000"),
        ("DARKROOM_BODIES_WAIT_MS", "300"),
    ])
    .await;
    let before = stack.api.memory_peak_mib();
    let mut lines = Vec::new();
    for _ in 0..3 {
        lines.push(begin_line(&stack, &stack.client, 4_000_000).await);
    }
    // Any of the three may be the one without room.
    let answers = lines.into_iter().map(|line| Box::pin(read_answer(line)));
    let first = tokio::time::timeout(Duration::from_secs(20), select_all(answers)).await;
    let (answer, _, held) = first.expect("an answer before the end of the body");
    assert!(answer.starts_with("http/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("rate_limited"), "{answer}");

    let other = stack.client_of("mill", &[Scope::Submit]).await;
    let photo = || fixtures::photo("cat.jpg");
    let taken = other.post_job("", "image/jpeg", photo()).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    let added = stack.api.memory_peak_mib() - before;
    assert!(added < REQUEST_MIB_MAX, "{added} MiB");

    drop(held);
    let large = {
        let mut large = photo();
        large.resize(9_000_000, 0);
        large
    };
    eventually(
        Duration::from_secs(20),
        "the key has room again",
        || async {
            let request = stack.client.request(Method::POST, "/v1/jobs");
            // The answer may come while the client still sends: then the connection may break.
            let answer = request.body(large.clone()).send().await.ok()?;
            (answer.status() == 202).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn the_bodies_of_all_keys_have_a_budget() {
    let stack = Stack::without_workers_but(&[
        ("DARKROOM_BODIES_BYTES_MAX", "5000000"),
        ("DARKROOM_BODIES_WAIT_MS", "300"),
    ])
    .await;
    let _held = begin_line(&stack, &stack.client, 4_000_000).await;
    let other = stack.client_of("mill", &[Scope::Submit]).await;
    let mut large = fixtures::photo("cat.jpg");
    large.resize(3_000_000, 0);
    let refused = eventually(Duration::from_secs(20), "the process is full", || async {
        let request = other.request(Method::POST, "/v1/images");
        // The answer may come while the client still sends: then the connection may break.
        let answer = request.body(large.clone()).send().await.ok()?;
        let status = answer.status();
        (status == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.headers()["retry-after"], "1");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "queue_full");
}

#[tokio::test]
async fn pages_of_jobs_and_events_are_bounded_in_bytes() {
    let stack = Stack::without_workers_but(&[("DARKROOM_PAGE_BYTES_MAX", "20000")]).await;
    let image = json!({"data": STANDARD.encode(fixtures::photo("cat.jpg"))});
    let mut submitted = Vec::new();
    for _ in 0..9 {
        let body = json!({"image": image, "metadata": {"a": "x".repeat(6000)}});
        let job = stack.client.post_json("/v1/jobs", &body).await;
        assert_eq!(job.status, 202, "{}", job.text());
        submitted.push(job.json()["id"].as_str().unwrap().to_owned());
        let held = given::claimed_by(&stack.db, "w").await;
        tests::settling::complete(&stack.db, &[held.completion("cat")])
            .await
            .unwrap();
    }
    submitted.reverse();
    for include in ["", "&include=attempts"] {
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = stack
                .client
                .get(&format!("/v1/jobs?limit=500{include}{cursor}"))
                .await;
            assert!(page.body.len() < 30_000, "{}", page.body.len());
            let page = page.json();
            let jobs = page["data"].as_array().unwrap();
            assert!((1..=3).contains(&jobs.len()), "{}", jobs.len());
            listed.extend(
                jobs.iter()
                    .map(|job| job["id"].as_str().unwrap().to_owned()),
            );
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(listed, submitted);
    }
    let (mut events, mut after) = (Vec::new(), String::new());
    while events.len() < submitted.len() {
        let path = format!("/v1/events?types=job.succeeded&limit=200{after}");
        let request = stack.client.request(Method::GET, &path);
        let page = send(request.header("Prefer", "wait=20")).await;
        assert!(page.body.len() < 30_000, "{}", page.body.len());
        let page = page.json();
        let some = page["data"].as_array().unwrap();
        assert!((1..=3).contains(&some.len()), "{}", some.len());
        events.extend(
            some.iter()
                .map(|event| event["data"]["id"].as_str().unwrap().to_owned()),
        );
        after = format!("&after={}", page["next_cursor"].as_str().unwrap());
    }
    events.reverse();
    assert_eq!(events, submitted);
}

/// A page is as long as `limit` while its jobs are small, however many reads that takes.
#[tokio::test]
async fn a_long_page_of_small_jobs_is_complete() {
    let stack = Stack::without_workers().await;
    let mut submitted = Vec::new();
    for _ in 0..120 {
        let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
        submitted.push(job["id"].as_str().unwrap().to_owned());
    }
    submitted.reverse();
    for (limit, has_next) in [(119, true), (120, false), (500, false)] {
        let page = stack
            .client
            .get(&format!("/v1/jobs?limit={limit}"))
            .await
            .json();
        let jobs = page["data"].as_array().unwrap().iter();
        let ids: Vec<_> = jobs.map(|job| job["id"].as_str().unwrap()).collect();
        assert_eq!(ids, submitted[..limit.min(120)]);
        assert_eq!(page["next_cursor"].is_string(), has_next, "{limit}");
    }
}
