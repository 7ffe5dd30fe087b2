//! The feed, the event stream of one job, and waiting requests when the API shuts down.

use std::time::Duration;

use futures_util::{StreamExt, future::try_join_all};
use jobs::{JobId, keys::Scope, queue};
use local::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, client::send, eventually, fixtures, given};
use tokio::time::timeout;

/// Less than the 30 seconds after which a process that shuts down closes open connections.
const AT_ONCE: Duration = Duration::from_secs(10);

async fn submit_job(stack: &Stack) -> String {
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    job["id"].as_str().unwrap().to_owned()
}

async fn complete_job(stack: &Stack) -> String {
    let id = submit_job(stack).await;
    let held = given::claimed_by(&stack.db, "w").await;
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
    id
}

async fn get_feed(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("/v1/events{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn wait_for_feed(client: &Client, query: &str, seconds: u32) -> Answer {
    let request = client.request(Method::GET, &format!("/v1/events{query}"));
    send(request.header("Prefer", format!("wait={seconds}"))).await
}

#[tokio::test]
async fn a_reader_that_was_away_catches_up() {
    let stack = Stack::without_workers().await;
    let ids = [
        complete_job(&stack).await,
        complete_job(&stack).await,
        complete_job(&stack).await,
    ];
    let (mut after, mut events) = (String::new(), vec![]);
    // Each job has two events.
    while events.len() < 2 * ids.len() {
        let page = wait_for_feed(&stack.client, &format!("?limit=2{after}"), 30).await;
        let page = page.json();
        events.extend(page["data"].as_array().unwrap().clone());
        after = format!("&after={}", page["next_cursor"].as_str().unwrap());
    }
    let ids_of = |kind: &str| -> Vec<_> {
        let events = events.iter().filter(|event| event["type"] == kind);
        let ids = events.map(|event| event["data"]["id"].as_str().unwrap());
        ids.collect()
    };
    assert_eq!(ids_of("job.started"), ids);
    assert_eq!(ids_of("job.succeeded"), ids);
    for event in &events {
        assert_eq!(event["object"], "event");
        assert_eq!(event["data"]["status"], "succeeded");
        assert_eq!(event["data"]["result"]["answer"], "cat");
        assert!(event["timestamp"].is_string());
    }
    let nothing = get_feed(&stack.client, &format!("?limit=2{after}")).await;
    assert_eq!(nothing["data"].as_array().unwrap().len(), 0);
    assert_eq!(nothing["next_cursor"], events[5]["id"]);
    let mallory = stack.client_of("mallory", &[Scope::Read]).await;
    assert_eq!(
        get_feed(&mallory, "").await["data"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn a_waiting_reader_gets_an_event_at_once() {
    let stack = Stack::without_workers().await;
    let id = submit_job(&stack).await;
    let from_now_on = get_feed(&stack.client, "?after=latest").await["next_cursor"].clone();
    let after = format!("?after={}", from_now_on.as_str().unwrap());
    let bob = stack.client_of("bob", &[Scope::Read]).await;
    let bobs = tokio::spawn(async move { wait_for_feed(&bob, "?after=latest", 1).await });
    let client = stack.client.clone();
    let asked = tokio::spawn(async move { wait_for_feed(&client, &after, 60).await });
    // Until then there is no event for alice.
    let nothing = bobs.await.unwrap().json();
    assert_eq!(nothing["data"].as_array().unwrap().len(), 0);
    assert!(!asked.is_finished());
    stack.client.cancel(&id).await;
    let canceled = asked.await.unwrap();
    assert_eq!(canceled.header("preference-applied"), Some("wait=60"));
    let event = canceled.json();
    assert_eq!(event["data"][0]["type"], "job.canceled");
}

#[tokio::test]
async fn an_invalid_query_of_the_feed_is_refused() {
    let stack = Stack::without_workers().await;
    for (query, pointer) in [
        ("?after=evt_1", "/after"),
        ("?types=job.exploded", "/types"),
        ("?limit=0", "/limit"),
        ("?limit=201", "/limit"),
        ("?since=1", "/since"),
    ] {
        let answer = stack.client.get(&format!("/v1/events{query}")).await;
        answer.problem_at(422, "invalid_params", pointer);
    }
    let types = get_feed(&stack.client, "?types=job.failed,%20batch.completed").await;
    assert_eq!(types["data"].as_array().unwrap().len(), 0);
}

/// Reads a stream until it ends; returns id, event and data of each step.
async fn read_stream(
    client: &Client,
    id: &str,
    last: Option<&str>,
) -> Vec<(String, String, Value)> {
    let request = client.request(Method::GET, &format!("/v1/jobs/{id}/events"));
    let mut request = request.header("Accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.bytes_stream();
    let mut text = String::new();
    while let Some(chunk) = body.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let blocks = text.split("\n\n").filter(|block| block.contains("data: "));
    blocks
        .map(|block| {
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_else(|| panic!("no {name} in {block}"))
                    .to_owned()
            };
            let data = serde_json::from_str(&field("data: ")).unwrap();
            (field("id: "), field("event: "), data)
        })
        .collect()
}

#[tokio::test]
async fn a_stream_sends_every_step_and_ends_with_the_job() {
    let stack = Stack::without_workers().await;
    let id = submit_job(&stack).await;
    let (client, followed) = (stack.client.clone(), id.clone());
    let following = tokio::spawn(async move { read_stream(&client, &followed, None).await });
    let held = given::claimed_by(&stack.db, "w1").await;
    tests::settling::release(&stack.db, &[held.lease()])
        .await
        .unwrap();
    let held = given::claimed_by(&stack.db, "w2").await;
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
    // A worker sends these wake-ups after its commit.
    let job: JobId = id.parse().unwrap();
    let notifier = queue::Notifier::start(stack.db.another_pool());
    while !following.is_finished() {
        notifier.changed([job]);
        notifier.flush().await;
        tokio::task::yield_now().await;
    }
    let steps = following.await.unwrap();
    let types: Vec<_> = steps.iter().map(|(_, event, _)| event.as_str()).collect();
    let expected = [
        "job.created",
        "job.started",
        "job.attempt_ended",
        "job.started",
        "job.succeeded",
    ];
    assert_eq!(types, expected);
    assert_eq!(steps[2].2["attempt"]["outcome"], "released");
    assert_eq!(steps[3].2["attempt"]["worker"], "w2");
    let (_, _, last) = steps.last().unwrap();
    assert_eq!(last["job"]["result"]["answer"], "cat");

    let listed = stack
        .client
        .get(&format!("/v1/jobs/{id}/events"))
        .await
        .json();
    let data: Vec<_> = steps.iter().map(|(_, _, data)| data.clone()).collect();
    assert_eq!(listed["data"], Value::Array(data), "list equals stream");

    let rest = read_stream(&stack.client, &id, Some(&steps[2].0)).await;
    assert_eq!(rest, steps[3..], "only steps after `Last-Event-ID`");
    let request = stack
        .client
        .request(Method::GET, &format!("/v1/jobs/{id}/events"));
    let request = request.header("Accept", "text/event-stream");
    let over = send(request.header("Last-Event-ID", &steps[4].0)).await;
    assert_eq!(over.status, 204);
}

#[tokio::test]
async fn a_job_canceled_before_its_start_has_two_steps() {
    let stack = Stack::without_workers().await;
    let id = submit_job(&stack).await;
    stack.client.cancel(&id).await;
    let steps = read_stream(&stack.client, &id, None).await;
    let types: Vec<_> = steps.iter().map(|(_, event, _)| event.as_str()).collect();
    assert_eq!(types, ["job.created", "job.canceled"]);
}

#[tokio::test]
async fn a_client_cannot_follow_the_job_of_another_owner() {
    let stack = Stack::without_workers().await;
    let id = submit_job(&stack).await;
    let mallory = stack.client_of("mallory", &[Scope::Read]).await;
    let path = format!("/v1/jobs/{id}/events");
    mallory.get(&path).await.problem(404, "not_found");
    let request = mallory.request(Method::GET, &path);
    let stream = send(request.header("Accept", "text/event-stream")).await;
    stream.problem(404, "not_found");
}

#[tokio::test]
async fn an_api_that_shuts_down_ends_its_open_responses() {
    let stack = Stack::without_workers().await;
    let id = submit_job(&stack).await;
    let (client, followed) = (stack.client.clone(), id.clone());
    let following = tokio::spawn(async move { read_stream(&client, &followed, None).await });
    let client = stack.client.clone();
    let reading = tokio::spawn(async move { wait_for_feed(&client, "?after=latest", 60).await });
    eventually(Duration::from_secs(10), "both requests came", || async {
        let log = stack.api.log();
        (log.contains("/v1/jobs/{id}/events") || log.contains("jobs/{id}/events")).then_some(())
    })
    .await;
    stack
        .api
        .stop(Signal::SIGTERM, Duration::from_secs(20))
        .await;
    let steps = following.await.unwrap();
    assert_eq!(steps.len(), 1, "{steps:?}");
    drop(reading.await);
}

/// A wait may be longer than the shutdown. Without an early response, a committed submit would get no response.
#[tokio::test]
async fn an_api_that_shuts_down_answers_requests_that_wait_for_a_job() {
    let stack = Stack::without_workers().await;
    let waiting = |method, path: &str| {
        let request = stack.client.request(method, path);
        request.header("Prefer", "wait=60")
    };
    let get = |id: &str| waiting(Method::GET, &format!("/v1/jobs/{id}"));
    let unended = get(&submit_job(&stack).await);
    let unchanged = get(&submit_job(&stack).await).header("If-None-Match", "\"1\"");
    let submit = waiting(Method::POST, "/v1/jobs").body(fixtures::photo("cat.jpg"));
    let answers = [submit, unended, unchanged].map(|request| tokio::spawn(send(request)));
    eventually(Duration::from_secs(20), "three requests wait", || async {
        let three = "darkroom_waited_jobs 3";
        stack.api.metrics().await.contains(three).then_some(())
    })
    .await;
    stack.api.signal(Signal::SIGTERM);
    let answers = timeout(AT_ONCE, try_join_all(answers)).await;
    let answers = answers.expect("the API answers at once").unwrap();
    let [submitted, unended, unchanged] = &answers[..] else {
        panic!("expected three responses")
    };
    assert_eq!(submitted.status, 202, "{}", submitted.text());
    assert_eq!(submitted.json()["status"], "queued");
    assert_eq!(unended.status, 200, "{}", unended.text());
    assert_eq!(unended.json()["status"], "queued");
    assert_eq!(unchanged.status, 304, "{}", unchanged.text());
}

#[tokio::test]
async fn an_api_that_shuts_down_answers_requests_that_wait_for_a_batch() {
    let stack = Stack::without_workers().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let good = json!({"image": {"sha256": job["input"]["image"]}});
    let lines = format!("{}\n{good}\n", json!({"modle": "unheard of"}));
    let waiting = |method, path: &str| {
        let request = stack.client.request(method, path);
        request.header("Prefer", "wait=60")
    };
    let create = waiting(Method::POST, "/v1/batches").body(lines);
    let create = create.header("Content-Type", "application/x-ndjson");
    let created = tokio::spawn(send(create));
    let id = eventually(Duration::from_secs(20), "all lines are stored", || async {
        let batches = stack.client.get("/v1/batches").await.json();
        let batch = &batches["data"][0];
        (batch["upload"] == "complete").then(|| batch["id"].as_str().unwrap().to_owned())
    })
    .await;
    let results = waiting(Method::GET, &format!("/v1/batches/{id}/results"));
    let mut results = results.send().await.unwrap();
    let refused = results.chunk().await.unwrap().expect("the first line");
    stack.api.signal(Signal::SIGTERM);
    let (created, rest) = timeout(AT_ONCE, async { tokio::join!(created, results.bytes()) })
        .await
        .expect("the API answers at once");
    let created = created.unwrap();
    assert_eq!(created.status, 202, "{}", created.text());
    assert_eq!(created.json()["status"], "running");
    let refused: Value = serde_json::from_slice(&refused).unwrap();
    assert_eq!(refused["line"], 1);
    assert!(rest.unwrap().is_empty(), "the second line has not ended");
}
