//! `/v1/batches`. The test itself plays the worker, by the verbs of the queue.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::{Problem, ProblemCode, Sha256Digest, keys::Scope, queue};
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, client::send, fixtures, given};

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
    let done = queue::complete(&stack.db, &[held.completion("cat")]).await;
    assert_eq!(done.unwrap().len(), 1);
}

async fn one_fails(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let torn = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    let failed = queue::fail(&stack.db, &[(held.lease(), torn)]).await;
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

#[tokio::test]
async fn each_line_becomes_a_job_and_what_is_wrong_is_told_by_its_number() {
    let stack = Stack::without_workers().await;
    let sha256 = stored(&stack, "cat.jpg").await;
    queue::cancel(&stack.db, newest(&stack).await, None)
        .await
        .unwrap();
    let data = STANDARD.encode(fixtures::photo("coffee.jpg"));
    let text = STANDARD.encode("just a text, and long enough");
    let lines = [
        json!({"custom_id": "by digest", "image": {"sha256": sha256}, "params": {"top_k": 3}, "metadata": {"a": "b"}}),
        json!({"custom_id": "unknown model", "image": {"sha256": sha256}, "model": "nothing"}),
        json!({"custom_id": "inline", "image": {"data": data}, "model": fixtures::EMBEDDER, "priority": 3}),
        json!({"custom_id": "no image"}),
        json!({"custom_id": "no such image", "image": {"sha256": Sha256Digest::of(b"never").hex()}}),
        json!({"custom_id": "text", "image": {"data": text}}),
        json!({"custom_id": "typo", "image": {"sha256": sha256}, "modle": "x"}),
    ];
    let body = format!("{}\nnot JSON\n", ndjson(&lines));
    let answer = send(batch(&stack.client, body)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let made = answer.json();
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("batch_"), "{made:#}");
    assert_eq!(
        answer.header("location"),
        Some(format!("/v1/batches/{id}").as_str())
    );
    assert_eq!(made["object"], "batch");
    assert_eq!(made["status"], "running");
    assert_eq!(made["upload"], "complete");
    let counts = &made["counts"];
    assert_eq!(
        (&counts["total"], &counts["queued"], &counts["refused"]),
        (&json!(8), &json!(2), &json!(6))
    );
    assert_eq!(get(&stack, id).await, made, "one shape, whoever asks");

    one_succeeds(&stack).await;
    one_succeeds(&stack).await;
    let done = ended(&stack, id).await;
    assert_eq!(done["status"], "partly_failed");
    assert!(done["finished_at"].is_string());
    let results = results(&stack, id, "").await;
    assert_eq!(numbers(&results), [1, 2, 3, 4, 5, 6, 7, 8]);
    let codes: Vec<_> = results
        .iter()
        .map(|one| one["error"]["code"].as_str())
        .collect();
    let want = [
        None,
        Some("unknown_model"),
        None,
        Some("invalid_request"),
        Some("not_found"),
        Some("unsupported_media_type"),
        Some("invalid_params"),
        Some("invalid_request"),
    ];
    assert_eq!(codes, want, "{results:#?}");
    assert_eq!(results[0]["custom_id"], "by digest");
    assert_eq!(results[0]["job"]["params"], json!({"top_k": 3}));
    assert_eq!(results[0]["job"]["metadata"], json!({"a": "b"}));
    assert_eq!(results[0]["job"]["batch_id"], id);
    assert_eq!(results[2]["job"]["status"], "succeeded");
    assert_eq!(
        results[6]["error"]["errors"][0]["pointer"], "/modle",
        "{:#}",
        results[6]
    );
    assert_eq!(results[7]["custom_id"], Value::Null);
}

async fn newest(stack: &Stack) -> jobs::JobId {
    let list = stack.client.get("/v1/jobs?limit=1").await.json();
    list["data"][0]["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_form_of_many_images_is_a_batch_named_by_their_files() {
    let stack = Stack::without_workers().await;
    let file =
        |name: &str, bytes: Vec<u8>| multipart::Part::bytes(bytes).file_name(name.to_owned());
    let job = json!({"params": {"top_k": 2}, "metadata": {"shoot": "7"}});
    let form = multipart::Form::new()
        .text("job", job.to_string())
        .part("image", file("cat.jpg", fixtures::photo("cat.jpg")))
        .part("image", file("page.html", fixtures::read("bad/page.html")))
        .part("image", file("coffee.jpg", fixtures::photo("coffee.jpg")));
    let request = stack
        .client
        .request(Method::POST, "/v1/batches?metadata.of=forms");
    let answer = send(request.multipart(form)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let made = answer.json();
    assert_eq!(made["metadata"], json!({"of": "forms"}));
    assert_eq!(
        (&made["counts"]["queued"], &made["counts"]["refused"]),
        (&json!(2), &json!(1))
    );
    one_succeeds(&stack).await;
    one_succeeds(&stack).await;
    let results = results(&stack, made["id"].as_str().unwrap(), "").await;
    let names: Vec<_> = results
        .iter()
        .map(|one| one["custom_id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["cat.jpg", "page.html", "coffee.jpg"]);
    assert_eq!(results[1]["error"]["code"], "unsupported_media_type");
    assert_eq!(results[2]["job"]["params"], json!({"top_k": 2}));
    assert_eq!(results[2]["job"]["metadata"], json!({"shoot": "7"}));
}

#[tokio::test]
async fn results_come_in_order_as_far_as_lines_have_ended() {
    let stack = Stack::without_workers().await;
    let sha256 = stored(&stack, "cat.jpg").await;
    queue::cancel(&stack.db, newest(&stack).await, None)
        .await
        .unwrap();
    let line = json!({"image": {"sha256": sha256}});
    let id = accepted(&stack, &vec![line; 3]).await;
    let first = given::claimed_by(&stack.db, "slow").await;
    one_succeeds(&stack).await;
    assert!(
        results(&stack, &id, "").await.is_empty(),
        "line 1 has not ended"
    );
    queue::complete(&stack.db, &[first.completion("cat")])
        .await
        .unwrap();
    assert_eq!(numbers(&results(&stack, &id, "").await), [1, 2]);
    assert_eq!(numbers(&results(&stack, &id, "?after=1").await), [2]);

    let path = format!("/v1/batches/{id}/results?after=1");
    let open = stack
        .client
        .request(Method::GET, &path)
        .header("Prefer", "wait=20");
    let open = tokio::spawn(send(open));
    one_succeeds(&stack).await;
    let answer = open.await.unwrap();
    assert_eq!(answer.header("preference-applied"), Some("wait=20"));
    let text = answer.text();
    let rest: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(numbers(&rest), [2, 3]);
}

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
        let lines: Option<i32> = sqlx::query_scalar("select lines from groups")
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
    sqlx::query("update groups set heard_at = now() - interval '1 hour'")
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
        "select count(distinct group_position) from live_jobs where group_id is not null",
    )
    .fetch_one(&*stack.db)
    .await
    .unwrap();
    assert_eq!(distinct, 7);
}

#[tokio::test]
async fn a_batch_is_canceled_and_its_failed_jobs_retried_as_one() {
    let stack = Stack::without_workers().await;
    let sha256 = stored(&stack, "cat.jpg").await;
    queue::cancel(&stack.db, newest(&stack).await, None)
        .await
        .unwrap();
    let line = json!({"image": {"sha256": sha256}});
    let id = accepted(&stack, &vec![line; 3]).await;
    one_fails(&stack).await;
    one_succeeds(&stack).await;
    let cancel = format!("/v1/batches/{id}/cancel");
    let canceled = stack.client.post_json(&cancel, &json!({})).await;
    assert_eq!(canceled.status, 200, "{}", canceled.text());
    assert_eq!(canceled.json()["status"], "canceled");
    assert_eq!(
        stack.client.post_json(&cancel, &json!({})).await.status,
        200
    );

    let retry = format!("/v1/batches/{id}/retry_failed");
    let retried = stack.client.post_json(&retry, &json!({})).await;
    assert_eq!(retried.status, 202, "{}", retried.text());
    assert_eq!(retried.json()["status"], "running");
    assert_eq!(
        stack.client.post_json(&retry, &json!({})).await.status,
        200,
        "nothing is left"
    );
    one_succeeds(&stack).await;
    let done = ended(&stack, &id).await;
    assert_eq!(done["status"], "partly_failed");
    let counts = &done["counts"];
    assert_eq!(
        (&counts["succeeded"], &counts["canceled"]),
        (&json!(2), &json!(1))
    );
    stack
        .client
        .post_json(&cancel, &json!({}))
        .await
        .problem(409, "job_terminal");
}

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

#[tokio::test]
async fn what_can_be_no_batch_is_refused_whole() {
    let env = [
        ("DARKROOM_BATCH_LINES_MAX", "3"),
        ("DARKROOM_BATCH_BYTES_MAX", "2000"),
        ("DARKROOM_BATCH_CHUNK_LINES", "2"),
    ];
    let stack = Stack::without_workers_but(&env).await;
    let sha256 = stored(&stack, "cat.jpg").await;
    let client = &stack.client;
    send(batch(client, "\n\n"))
        .await
        .problem(400, "invalid_request");
    let json = client.request(Method::POST, "/v1/batches").json(&json!({}));
    send(json).await.problem(415, "unsupported_media_type");
    let query = client.request(Method::POST, "/v1/batches?colour=red");
    let query = query
        .header("Content-Type", "application/x-ndjson")
        .body("{}");
    send(query)
        .await
        .problem_at(422, "invalid_params", "/colour");
    send(batch(client, "x".repeat(2001)))
        .await
        .problem(413, "invalid_request");
    let line = json!({"image": {"sha256": sha256}});
    let many = send(batch(client, ndjson(&vec![line; 5]))).await;
    many.problem(413, "invalid_request");
    // What was queued of it is taken back.
    tests::eventually(Duration::from_secs(10), "it is canceled", || async {
        let page = client.get("/v1/batches").await.json();
        (page["data"][0]["status"] == "canceled").then_some(())
    })
    .await;
}

/// Bounded memory, and fast enough that nobody waits for the queue.
#[tokio::test]
async fn thousands_of_lines_are_queued_in_bulk() {
    let stack = Stack::without_workers().await;
    let sha256 = stored(&stack, "cat.jpg").await;
    let lines: Vec<_> = (0..5_000)
        .map(|n| json!({"custom_id": n.to_string(), "image": {"sha256": sha256}}))
        .collect();
    let began = std::time::Instant::now();
    let id = accepted(&stack, &lines).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(get(&stack, &id).await["counts"]["queued"], 5_000);
}
