//! Which requests make a batch, and what becomes of each line.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::{Sha256Digest, queue};
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use tests::{Stack, client::send, fixtures};

use super::{
    batch_request, complete_next_job, create_batch, get_batch, get_results, line_numbers, ndjson,
    newest_job, store_image, wait_until_ended,
};

#[tokio::test]
async fn a_valid_line_becomes_a_job_and_an_invalid_line_an_error_with_its_number() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    queue::cancel(&stack.db, newest_job(&stack).await, None)
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
    let answer = send(batch_request(&stack.client, body)).await;
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
    assert_eq!(get_batch(&stack, id).await, made, "GET equals POST");

    complete_next_job(&stack).await;
    complete_next_job(&stack).await;
    let done = wait_until_ended(&stack, id).await;
    assert_eq!(done["status"], "partly_failed");
    assert!(done["finished_at"].is_string());
    let results = get_results(&stack, id, "").await;
    assert_eq!(line_numbers(&results), [1, 2, 3, 4, 5, 6, 7, 8]);
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

#[tokio::test]
async fn a_form_with_many_images_makes_a_batch_with_file_names_as_custom_ids() {
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
    complete_next_job(&stack).await;
    complete_next_job(&stack).await;
    let results = get_results(&stack, made["id"].as_str().unwrap(), "").await;
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
async fn an_invalid_batch_is_refused_as_a_whole() {
    let env = [
        ("DARKROOM_BATCH_LINES_MAX", "3"),
        ("DARKROOM_BATCH_BYTES_MAX", "2000"),
        ("DARKROOM_BATCH_CHUNK_LINES", "2"),
    ];
    let stack = Stack::without_workers_but(&env).await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let client = &stack.client;
    send(batch_request(client, "\n\n"))
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
    send(batch_request(client, "x".repeat(2001)))
        .await
        .problem(413, "invalid_request");
    let line = json!({"image": {"sha256": sha256}});
    let many = send(batch_request(client, ndjson(&vec![line; 5]))).await;
    many.problem(413, "invalid_request");
    // The API had queued the first lines, and cancels their jobs.
    tests::eventually(Duration::from_secs(10), "the batch is canceled", || async {
        let page = client.get("/v1/batches").await.json();
        (page["data"][0]["status"] == "canceled").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_line_with_a_nul_character_is_refused_alone() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let image = json!({"sha256": sha256});
    let lines = [
        json!({"custom_id": "name", "image": image, "params": {"\0": 1}}),
        json!({"custom_id": "value", "image": image, "params": {"top_k": "\0"}}),
        json!({"custom_id": "field", "image": image, "\0": 1}),
        json!({"custom_id": "model", "image": image, "model": "\0"}),
        json!({"custom_id": "url", "image": {"url": "https://\0"}}),
        json!({"custom_id": "fine", "image": image}),
    ];
    let id = create_batch(&stack, &lines).await;
    let counts = &get_batch(&stack, &id).await["counts"];
    assert_eq!(
        (&counts["queued"], &counts["refused"]),
        (&json!(1), &json!(5))
    );
    let first = &get_results(&stack, &id, "").await[0];
    let pointer = &first["error"]["errors"][0]["pointer"];
    assert_eq!(pointer, "/params/\u{fffd}", "{first:#}");
}

#[tokio::test]
async fn a_line_with_large_metadata_is_refused_alone() {
    let stack = Stack::without_workers_but(&[("DARKROOM_JOB_BYTES_MAX", "1000")]).await;
    let data = STANDARD.encode(fixtures::photo("coffee.jpg"));
    let lines = [1000, 900]
        .map(|length| json!({"image": {"data": data}, "metadata": {"a": "x".repeat(length)}}));
    let id = create_batch(&stack, &lines).await;
    assert_eq!(get_batch(&stack, &id).await["counts"]["queued"], 1);
    let refused = get_results(&stack, &id, "").await;
    assert_eq!(line_numbers(&refused), [1]);
    let error = &refused[0]["error"];
    assert_eq!(error["code"], "invalid_params", "{error:#}");
    assert_eq!(error["errors"][0]["pointer"], "/metadata", "{error:#}");
}

#[tokio::test]
async fn a_line_whose_deadline_has_passed_is_refused_alone() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let image = json!({"sha256": sha256});
    let lines = [
        json!({"image": image, "deadline": "2020-01-01T00:00:00Z"}),
        json!({"image": image}),
    ];
    let id = create_batch(&stack, &lines).await;
    assert_eq!(get_batch(&stack, &id).await["counts"]["queued"], 1);
    let refused = get_results(&stack, &id, "").await;
    assert_eq!(line_numbers(&refused), [1]);
    assert_eq!(refused[0]["error"]["errors"][0]["pointer"], "/deadline");
}

#[tokio::test]
async fn thousands_of_lines_are_queued_in_bulk() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    let lines: Vec<_> = (0..5_000)
        .map(|n| json!({"custom_id": n.to_string(), "image": {"sha256": sha256}}))
        .collect();
    let began = std::time::Instant::now();
    let id = create_batch(&stack, &lines).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(get_batch(&stack, &id).await["counts"]["queued"], 5_000);
}
