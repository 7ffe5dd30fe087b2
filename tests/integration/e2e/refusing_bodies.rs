//! Refused request bodies: too large, too slow, in a wrong form, or with invalid content.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use reqwest::{Method, multipart};
use serde_json::json;
use tests::{Stack, client::send, fixtures};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const RAW: &str = "application/octet-stream";

/// Sends only the head of a raw submit.
async fn begin_submit(stack: &Stack, query: &str, length: &str) -> TcpStream {
    let host = stack.api.url.trim_start_matches("http://");
    let request = stack
        .client
        .request(Method::POST, "/v1/jobs")
        .build()
        .unwrap();
    let key = request.headers()["authorization"].to_str().unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /v1/jobs{query} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\nContent-Type: {RAW}\r\n{length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

/// The answer that comes before the body has ended.
async fn read_answer(mut socket: TcpStream) -> String {
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(8), socket.read(&mut answer)).await;
    let length = read.expect("an answer before the end of the body").unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
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
async fn an_image_over_the_limit_is_refused_with_and_without_a_content_length() {
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
    // The answer comes while the client still sends. The client may see a closed connection instead.
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
    assert_eq!(jobs, 1, "only the small image");
}

/// The API stops reading at the limit.
#[tokio::test]
async fn an_endless_upload_is_refused_at_the_limit() {
    let stack = Stack::without_workers_but(&[("DARKROOM_IMAGE_BYTES_MAX", "100000")]).await;
    let mut socket = begin_submit(&stack, "", "Transfer-Encoding: chunked").await;
    let mut first = fixtures::photo("cat.jpg");
    first.resize(110_000, 0);
    socket
        .write_all(format!("{:x}\r\n", first.len()).as_bytes())
        .await
        .unwrap();
    socket.write_all(&first).await.unwrap();
    socket.write_all(b"\r\n").await.unwrap();
    // The last chunk never comes: a server that waits for it waits forever.
    let answer = read_answer(socket).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_stalled_upload_times_out() {
    let stack = Stack::without_workers_but(&[("DARKROOM_BODY_IDLE_TIMEOUT_MS", "300")]).await;
    let mut socket = begin_submit(&stack, "", "Content-Length: 5000").await;
    socket.write_all(b"half").await.unwrap();
    let answer = read_answer(socket).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_passed_deadline_is_refused_before_the_image_arrives() {
    let stack = Stack::without_workers().await;
    let passed = "?deadline=2020-01-01T00:00:00Z";
    let answer = read_answer(begin_submit(&stack, passed, "Content-Length: 5000").await).await;
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
}

#[tokio::test]
async fn only_the_image_of_a_job_may_be_large() {
    let stack = Stack::without_workers_but(&[("DARKROOM_JOB_BYTES_MAX", "1000")]).await;
    let image = json!({"data": STANDARD.encode(fixtures::photo("cat.jpg"))});
    let long = |length| "x".repeat(length);
    for (mut body, pointer) in [
        (json!({"metadata": {"a": long(1000)}}), "/metadata"),
        (json!({"metadata": {"a": vec!["x"; 300]}}), "/metadata"),
        (json!({"params": {"note": long(1000)}}), "/params"),
        (json!({"model": long(1000)}), "/model"),
        (
            json!({"params": {"note": long(400)}, "metadata": {"a": long(600)}}),
            "/metadata",
        ),
    ] {
        body["image"] = image.clone();
        let refused = stack.client.post_json("/v1/jobs", &body).await;
        refused.problem_at(422, "invalid_params", pointer);
    }
    let query = format!("?metadata.a={}", long(1000));
    let refused = stack.client.post_job(&query, RAW, "no image").await;
    refused.problem_at(422, "invalid_params", "/metadata");
    let fits = json!({"image": image, "metadata": {"a": long(900)}});
    let taken = stack.client.post_json("/v1/jobs", &fits).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
}

#[tokio::test]
async fn query_parameters_of_a_multipart_or_json_submit_are_refused() {
    let stack = Stack::without_workers().await;
    let path = "/v1/jobs?model=efficientnet-lite0";
    let form = multipart::Form::new().part("image", multipart::Part::bytes(b"any".as_slice()));
    let form = stack.client.request(Method::POST, path).multipart(form);
    let json = stack.client.request(Method::POST, path);
    let json = json.json(&json!({"image": {"data": "YW55"}}));
    for (request, place) in [(form, "the part `job`"), (json, "the JSON")] {
        let refused = send(request).await.problem(422, "invalid_params");
        let fault = &refused["errors"][0];
        assert_eq!(fault["pointer"], "/model", "{refused:#}");
        let detail = fault["detail"].as_str().unwrap();
        assert!(detail.contains(place), "{detail}");
    }
}

#[tokio::test]
async fn a_body_with_a_content_encoding_is_refused() {
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
async fn a_multipart_body_needs_one_image_and_at_most_one_job_part() {
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
async fn an_image_url_is_refused_when_image_urls_are_turned_off() {
    let stack = Stack::without_workers().await;
    let body = json!({"image": {"url": "http://169.254.169.254/latest/meta-data"}});
    stack
        .client
        .post_json("/v1/jobs", &body)
        .await
        .problem(422, "image_url_blocked");
}
