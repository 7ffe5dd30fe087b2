//! Refusals: each with its documented status, code and shape.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use jobs::keys::Scope;
use reqwest::{Method, multipart};
use serde_json::json;
use tests::{Stack, client::send, fixtures, given};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const RAW: &str = "application/octet-stream";

#[tokio::test]
async fn a_missing_or_wrong_key_is_unauthorized() {
    let stack = Stack::without_workers().await;
    let good = stack.client.get("/v1/jobs").await;
    assert_eq!(good.status, 200);
    let wrong = "dk_000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for key in [None, Some(wrong), Some("dk_"), Some("nonsense"), Some("")] {
        let client = stack.client_with(key);
        let refused = client.get("/v1/jobs").await;
        refused.problem(401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        client
            .post_job("", RAW, fixtures::photo("cat.jpg"))
            .await
            .problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn an_expired_or_revoked_key_is_unauthorized() {
    let stack = Stack::without_workers().await;
    for change in [
        "expires_at = now() - interval '1 second'",
        "revoked_at = now()",
    ] {
        // Never used before: a key that was just used is believed for a few seconds.
        let client = stack.client_of("carol", &[Scope::Read]).await;
        let change = format!("update api_keys set {change} where owner = 'carol'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(change))
            .execute(&*stack.db)
            .await
            .unwrap();
        client.get("/v1/jobs").await.problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_key_without_the_scope_is_forbidden() {
    let stack = Stack::without_workers().await;
    let id = stack.client.submit("", fixtures::photo("cat.jpg")).await["id"].clone();
    let id = id.as_str().unwrap();
    let reader = stack.client_of(given::OWNER, &[Scope::Read]).await;
    reader
        .post_job("", RAW, fixtures::photo("cat.jpg"))
        .await
        .problem(403, "forbidden");
    reader.cancel(id).await.problem(403, "forbidden");
    let writer = stack.client_of(given::OWNER, &[Scope::Submit]).await;
    for path in [
        "/v1/jobs".into(),
        format!("/v1/jobs/{id}"),
        format!("/v1/jobs/{id}/result"),
        "/v1/models".into(),
    ] {
        writer.get(&path).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn another_owners_job_is_not_found_on_any_route() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let job = stack.client.submit("", photo.clone()).await;
    let id = job["id"].as_str().unwrap();
    let bob = stack
        .client_of(
            "bob",
            &[Scope::Submit, Scope::Read, Scope::Operate, Scope::Admin],
        )
        .await;
    bob.get(&format!("/v1/jobs/{id}"))
        .await
        .problem(404, "not_found");
    bob.get(&format!("/v1/jobs/{id}/result"))
        .await
        .problem(404, "not_found");
    bob.cancel(id).await.problem(404, "not_found");
    assert_eq!(bob.get("/v1/jobs").await.json()["data"], json!([]));
    let theirs = json!({"image": {"sha256": job["input"]["image"]}});
    bob.post_json("/v1/jobs", &theirs)
        .await
        .problem_at(404, "not_found", "/image/sha256");
    assert_eq!(
        stack.client.job(id).await["status"],
        "queued",
        "nothing happened to it"
    );
}

#[tokio::test]
async fn an_id_of_nothing_is_not_found() {
    let stack = Stack::without_workers().await;
    for id in [
        "job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7",
        "job_1",
        "x",
        "job_%00",
        "%F0%9F%93%B7",
    ] {
        stack
            .client
            .get(&format!("/v1/jobs/{id}"))
            .await
            .problem(404, "not_found");
        stack
            .client
            .get(&format!("/v1/jobs/{id}/result"))
            .await
            .problem(404, "not_found");
        stack.client.cancel(id).await.problem(404, "not_found");
    }
    stack
        .client
        .get("/v1/nothing")
        .await
        .problem(404, "not_found");
    stack
        .client
        .get("/v1/models/nothing")
        .await
        .problem(404, "not_found");
    stack
        .client
        .get("/problems/nothing")
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    let stack = Stack::without_workers().await;
    for model in [
        "nothing",
        "efficientnet-lite0@nothing",
        "efficientnet-lite0:99",
        "efficientnet-lite0:x",
        "%00",
        "@",
        "",
    ] {
        let query = format!("?model={model}");
        let refused = stack
            .client
            .post_job(&query, RAW, fixtures::photo("cat.jpg"))
            .await;
        refused.problem_at(404, "unknown_model", "/model");
    }
}

#[tokio::test]
async fn without_a_model_there_is_no_default_one() {
    let stack = Stack::bare(&[]).await;
    let refused = stack
        .client
        .post_job("", RAW, fixtures::photo("cat.jpg"))
        .await;
    refused.problem(404, "unknown_model");
}

#[tokio::test]
async fn a_wrong_field_is_refused_with_a_pointer_to_it() {
    let stack = Stack::without_workers().await;
    for (body, pointer) in [
        (json!({"params": {"top_k": 0}}), "/params/top_k"),
        (json!({"params": {"top_k": "5"}}), "/params/top_k"),
        (json!({"params": {"topk": 5}}), "/params/topk"),
        (json!({"modle": "efficientnet-lite0"}), "/modle"),
        (json!({"image": {"sha265": "00"}}), "/image/sha265"),
        (json!({"image": {"sha256": "short"}}), "/image/sha256"),
        (json!({"image": {"data": "not base64!"}}), "/image/data"),
        (json!({"image": {}}), "/image"),
        (json!({"priority": "high"}), "/priority"),
        (json!({"priority": 101}), "/priority"),
        (json!({"max_attempts": 0}), "/max_attempts"),
        (json!({"deadline": "2020-01-01T00:00:00Z"}), "/deadline"),
        (json!({"run_at": "tomorrow"}), "/run_at"),
        (json!({"retain_for": "a week"}), "/retain_for"),
        (json!({"metadata": {"name": "nul\0"}}), "/metadata"),
        (json!({"metadata": []}), "/metadata"),
    ] {
        let refused = stack.client.post_json("/v1/jobs", &body).await;
        refused.problem_at(422, "invalid_params", pointer);
    }
    for (query, pointer) in [
        ("?top_k=0", "/params/top_k"),
        ("?priority=high", "/priority"),
        ("?colour=red", "/params/colour"),
    ] {
        let refused = stack
            .client
            .post_job(query, RAW, fixtures::photo("cat.jpg"))
            .await;
        refused.problem_at(422, "invalid_params", pointer);
    }
    for (query, pointer) in [
        ("?status=done", "/status"),
        ("?limit=0", "/limit"),
        ("?limit=501", "/limit"),
        ("?cursor=x", "/cursor"),
        ("?created_after=today", "/created_after"),
        ("?include=everything", "/include"),
        ("?colour=red", "/colour"),
    ] {
        let refused = stack.client.get(&format!("/v1/jobs{query}")).await;
        refused.problem_at(422, "invalid_params", pointer);
    }
    let jobs: i64 = sqlx::query_scalar("select count(*) from live_jobs")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(jobs, 0);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused() {
    let stack = Stack::without_workers().await;
    let deep = format!(
        r#"{{"metadata": {{"a": {}1{}}}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    for body in ["{", "", "{} {}", "\u{feff}{}", "nul\0", deep.as_str()] {
        let refused = stack
            .client
            .post_job("", "application/json", body.to_owned())
            .await;
        refused.problem(400, "invalid_request");
    }
    let null = stack.client.post_job("", "application/json", "null").await;
    assert!(matches!(null.status, 400 | 422), "{}", null.text());
    stack
        .client
        .post_job("", "application/json", "{}")
        .await
        .problem(400, "invalid_request");
}

#[tokio::test]
async fn an_empty_body_is_refused() {
    let stack = Stack::without_workers().await;
    for content_type in [RAW, "image/jpeg", "application/json"] {
        stack
            .client
            .post_job("", content_type, "")
            .await
            .problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn an_image_over_the_limit_is_refused_with_its_length_and_in_chunks() {
    let stack = Stack::without_workers_but(&[("DARKROOM_IMAGE_BYTES_MAX", "300000")]).await;
    let mut photo = fixtures::photo("cat.jpg");
    assert!(photo.len() < 300_000);
    assert_eq!(
        stack.client.post_job("", RAW, photo.clone()).await.status,
        202
    );
    photo.resize(300_001, 0);
    stack
        .client
        .post_job("", RAW, photo.clone())
        .await
        .problem(413, "image_too_large");
    let part = |photo: &[u8]| {
        let part = multipart::Part::bytes(photo.to_vec());
        stack
            .client
            .request(Method::POST, "/v1/jobs")
            .multipart(multipart::Form::new().part("image", part))
    };
    send(part(&photo)).await.problem(413, "image_too_large");
    photo.resize(1_500_000, 0);
    // The answer comes while the body is still on its way, so that the client may see the connection close instead.
    let chunks = stream::iter(
        photo
            .chunks(10_000)
            .map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk)))
            .collect::<Vec<_>>(),
    );
    let chunked = stack
        .client
        .request(Method::POST, "/v1/jobs")
        .body(reqwest::Body::wrap_stream(chunks));
    if let Ok(answer) = chunked.header("Content-Type", RAW).send().await {
        assert_eq!(answer.status(), 413);
    }
    let jobs: i64 = sqlx::query_scalar("select count(*) from live_jobs")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(jobs, 1, "only the small one");
}

/// Reading stops at the limit: an endless upload is cut off, not swallowed.
#[tokio::test]
async fn an_endless_upload_is_answered_before_its_end() {
    let stack = Stack::without_workers_but(&[("DARKROOM_IMAGE_BYTES_MAX", "100000")]).await;
    let host = stack.api.url.trim_start_matches("http://");
    let request = stack
        .client
        .request(Method::POST, "/v1/jobs")
        .build()
        .unwrap();
    let key = request.headers()["authorization"].to_str().unwrap();
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\nContent-Type: {RAW}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut first = fixtures::photo("cat.jpg");
    first.resize(110_000, 0);
    socket
        .write_all(format!("{:x}\r\n", first.len()).as_bytes())
        .await
        .unwrap();
    socket.write_all(&first).await.unwrap();
    socket.write_all(b"\r\n").await.unwrap();
    // No last chunk: whoever waits for the end waits for ever.
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(8), socket.read(&mut answer)).await;
    let length = read.expect("answered before the end").unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn an_upload_that_stalls_is_given_up() {
    let stack = Stack::without_workers_but(&[("DARKROOM_BODY_IDLE_TIMEOUT_MS", "300")]).await;
    let host = stack.api.url.trim_start_matches("http://");
    let request = stack
        .client
        .request(Method::POST, "/v1/jobs")
        .build()
        .unwrap();
    let key = request.headers()["authorization"].to_str().unwrap();
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\nContent-Type: {RAW}\r\nContent-Length: 5000\r\n\r\nhalf"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(8), socket.read(&mut answer)).await;
    let length = read.expect("answered though the body never came").unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let stack = Stack::without_workers().await;
    for coding in ["gzip", "br", "x-nonsense"] {
        let request = stack
            .client
            .request(Method::POST, "/v1/jobs")
            .header("Content-Encoding", coding);
        let refused = send(
            request
                .header("Content-Type", RAW)
                .body(fixtures::photo("cat.jpg")),
        )
        .await;
        refused.problem(415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn a_multipart_body_has_one_image_and_at_most_one_job() {
    let stack = Stack::without_workers().await;
    let photo = || multipart::Part::bytes(fixtures::photo("cat.jpg"));
    let job = || multipart::Part::text("{}");
    let post = |form| {
        send(
            stack
                .client
                .request(Method::POST, "/v1/jobs")
                .multipart(form),
        )
    };
    let form = multipart::Form::new;
    post(form().part("job", job()))
        .await
        .problem(400, "invalid_request");
    post(form().part("image", photo()).part("image", photo()))
        .await
        .problem(400, "invalid_request");
    post(
        form()
            .part("image", photo())
            .part("job", job())
            .part("job", job()),
    )
    .await
    .problem(400, "invalid_request");
    let extra = post(form().part("image", photo()).part("picture", photo())).await;
    extra.problem(422, "invalid_params");
    let named = multipart::Part::text(
        r#"{"image": {"sha256": "0000000000000000000000000000000000000000000000000000000000000000"}}"#,
    );
    post(form().part("image", photo()).part("job", named))
        .await
        .problem(400, "invalid_request");
    let wrong = multipart::Part::text(r#"{"params": {"top_k": 0}}"#);
    post(form().part("image", photo()).part("job", wrong))
        .await
        .problem_at(422, "invalid_params", "/params/top_k");
    for (boundary, body) in [
        ("x", "--x\r\n"),
        ("x", ""),
        (
            "x",
            "--x\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nabc",
        ),
    ] {
        let content_type = format!("multipart/form-data; boundary={boundary}");
        stack
            .client
            .post_job("", &content_type, body)
            .await
            .problem(400, "invalid_request");
    }
    stack
        .client
        .post_job("", "multipart/form-data", "")
        .await
        .problem(400, "invalid_request");
    let parts = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n".repeat(10_000);
    let many = stack
        .client
        .post_job("", "multipart/form-data; boundary=x", parts)
        .await;
    assert!((400..500).contains(&many.status), "{}", many.text());
}

#[tokio::test]
async fn an_image_by_url_is_refused_where_it_is_turned_off() {
    let stack = Stack::without_workers().await;
    let body = json!({"image": {"url": "http://169.254.169.254/latest/meta-data"}});
    stack
        .client
        .post_json("/v1/jobs", &body)
        .await
        .problem(422, "image_url_blocked");
}

#[tokio::test]
async fn a_wrong_method_is_told_apart_from_a_wrong_path() {
    let stack = Stack::without_workers().await;
    for (method, path) in [
        (Method::DELETE, "/v1/jobs"),
        (Method::POST, "/v1/models"),
        (Method::PUT, "/openapi.json"),
    ] {
        send(stack.client.request(method, path))
            .await
            .problem(405, "invalid_request");
    }
}

#[tokio::test]
async fn the_request_id_of_the_client_comes_back_unless_it_is_strange() {
    let stack = Stack::without_workers().await;
    let ask = |id: &str| {
        let id = reqwest::header::HeaderValue::from_bytes(id.as_bytes()).unwrap();
        send(
            stack
                .client
                .request(Method::GET, "/v1/jobs/job_1")
                .header("X-Request-Id", id),
        )
    };
    let answer = ask("order-7/retry:2").await;
    assert_eq!(
        answer.problem(404, "not_found")["request_id"],
        "order-7/retry:2"
    );
    for strange in ["<script>", "a b", "é", "x".repeat(200).as_str()] {
        let problem = ask(strange).await.problem(404, "not_found");
        assert_ne!(problem["request_id"], strange);
    }
}

#[tokio::test]
async fn the_trace_of_the_client_goes_with_the_job() {
    let stack = Stack::without_workers().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = stack
        .client
        .request(Method::POST, "/v1/jobs")
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"));
    let answer = send(
        request
            .header("Content-Type", RAW)
            .body(fixtures::photo("cat.jpg")),
    )
    .await;
    assert_eq!(answer.json()["trace_id"], trace);
}
