//! Each refusal has its documented status, code and shape.

use jobs::keys::Scope;
use reqwest::Method;
use serde_json::json;
use tests::{Stack, client::send, fixtures, given};

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
        // A new key each time: the API trusts a key that was just used for a few seconds.
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
    let bob = stack.client_of("bob", &Scope::ALL).await;
    bob.get(&format!("/v1/jobs/{id}"))
        .await
        .problem(404, "not_found");
    bob.get(&format!("/v1/jobs/{id}/result"))
        .await
        .problem(404, "not_found");
    bob.cancel(id).await.problem(404, "not_found");
    assert_eq!(bob.get("/v1/jobs").await.json()["data"], json!([]));
    let of_alice = json!({"image": {"sha256": job["input"]["image"]}});
    bob.post_json("/v1/jobs", &of_alice)
        .await
        .problem_at(404, "not_found", "/image/sha256");
    assert_eq!(
        stack.client.job(id).await["status"],
        "queued",
        "the job has not changed"
    );
}

#[tokio::test]
async fn an_unknown_id_is_not_found() {
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
async fn without_a_registered_model_a_submit_is_refused() {
    let stack = Stack::bare(&[]).await;
    let refused = stack
        .client
        .post_job("", RAW, fixtures::photo("cat.jpg"))
        .await;
    refused.problem(404, "unknown_model");
}

#[tokio::test]
async fn an_invalid_field_is_refused_with_its_pointer() {
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
async fn a_wrong_method_answers_405() {
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
async fn only_a_valid_request_id_of_the_client_is_returned() {
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
    for invalid in ["<script>", "a b", "é", "x".repeat(200).as_str()] {
        let problem = ask(invalid).await.problem(404, "not_found");
        assert_ne!(problem["request_id"], invalid);
    }
}

#[tokio::test]
async fn a_job_carries_the_trace_id_of_its_client() {
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
