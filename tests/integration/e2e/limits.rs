//! The limits of keys and owners. A 429 response says when the client should come back.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Stack, client::send, fixtures, given};

const ALL: [&str; 5] = ["submit", "read", "webhooks", "operate", "admin"];

/// A client whose key has these limits.
async fn client_with_limits(stack: &Stack, owner: &str, limits: Value) -> Client {
    let wanted = json!({"name": "test", "owner": owner, "scopes": ALL, "limits": limits});
    let made = stack.client.post_json("/v1/api_keys", &wanted).await;
    assert_eq!(made.status, 201, "{}", made.text());
    stack.client_with(made.json()["key"].as_str())
}

#[tokio::test]
async fn a_key_over_its_rate_gets_a_retry_time_and_other_keys_go_on() {
    let stack = Stack::bare(&[]).await;
    // One token in a quarter of an hour: no token comes back during the test.
    let limits = json!({"requests_per_second": 0.001, "burst": 3});
    let client = client_with_limits(&stack, "shop", limits).await;
    let other_key = client_with_limits(&stack, "shop", json!({})).await;
    for left in [2, 1, 0] {
        let answer = client.get("/v1/jobs").await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"requests\";q=3;w=3000")
        );
        let limit = answer.header("ratelimit").unwrap();
        assert!(
            limit.starts_with(&format!("\"requests\";r={left};t=")),
            "{limit}"
        );
        assert_eq!(answer.header("retry-after"), None);
    }
    for (method, path) in [
        (Method::GET, "/v1/jobs"),
        (Method::POST, "/v1/jobs"),
        (Method::GET, "/v1/stats"),
    ] {
        let refused = send(client.request(method, path)).await;
        assert_eq!(refused.problem(429, "rate_limited")["retryable"], true);
        let limit = refused.header("ratelimit").unwrap();
        assert!(limit.starts_with("\"requests\";r=0;t="), "{limit}");
        let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((900..=1000).contains(&seconds), "{seconds}");
    }
    assert_eq!(other_key.get("/v1/jobs").await.status, 200);
}

/// The first requests of a key are verified at the same time, and share one bucket.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_requests_share_one_burst() {
    let stack = Stack::bare(&[]).await;
    for key in 0..5 {
        let limits = json!({"requests_per_second": 0.001, "burst": 1});
        let client = client_with_limits(&stack, &format!("shop{key}"), limits).await;
        let answers = join_all((0..30).map(|_| client.get("/v1/models"))).await;
        let passed = answers.iter().filter(|answer| answer.status == 200);
        assert_eq!(passed.count(), 1);
    }
}

#[tokio::test]
async fn a_key_without_a_rate_limit_gets_no_ratelimit_header() {
    let stack = Stack::bare(&[]).await;
    let client = client_with_limits(&stack, "shop", json!({"requests_per_second": 0})).await;
    for _ in 0..50 {
        let answer = client.get("/v1/jobs").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit"), None);
    }
}

#[tokio::test]
async fn live_jobs_are_capped_per_owner_and_an_ended_job_makes_room() {
    let stack = Stack::without_workers().await;
    let capped = json!({"queued_jobs_max": 3});
    let client = client_with_limits(&stack, "shop", capped.clone()).await;
    let other = client_with_limits(&stack, "mill", capped).await;
    let post = |client: &Client| {
        let client = client.clone();
        async move {
            let photo = fixtures::photo("cat.jpg");
            client.post_job("", "image/jpeg", photo).await
        }
    };
    let mut ids = Vec::new();
    for _ in 0..3 {
        let accepted = post(&client).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        ids.push(accepted.json()["id"].as_str().unwrap().to_owned());
    }
    let refused = post(&client).await;
    refused.problem(429, "quota_exceeded");
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(post(&other).await.status, 202, "a cap for each owner");

    let held = given::claimed_by(&stack.db, "w").await;
    let ended = held.completion("cat");
    tests::settling::complete(&stack.db, &[ended])
        .await
        .unwrap();
    assert_eq!(client.cancel(&ids[2]).await.status, 200);
    // The API may count an ended job for another moment.
    let accepted = tests::eventually(
        std::time::Duration::from_secs(5),
        "the API accepts a job again",
        || async {
            let answer = post(&client).await;
            (answer.status == 202).then_some(answer)
        },
    )
    .await;
    assert_eq!(accepted.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_submits_cannot_exceed_the_cap() {
    let stack = Stack::without_workers().await;
    let client = client_with_limits(&stack, "shop", json!({"queued_jobs_max": 5})).await;
    let posts: Vec<_> = (0..30)
        .map(|_| {
            let client = client.clone();
            let photo = fixtures::photo("cat.jpg");
            tokio::spawn(async move { client.post_job("", "image/jpeg", photo).await })
        })
        .collect();
    let mut accepted = 0;
    for post in posts {
        let answer = post.await.unwrap();
        if answer.status == 202 {
            accepted += 1;
        } else {
            answer.problem(429, "quota_exceeded");
        }
    }
    let queued: i64 = sqlx::query_scalar("select count(*) from live_jobs where owner = 'shop'")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(accepted, queued);
    assert!((1..=5).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn stored_bytes_are_capped_and_a_stored_image_needs_no_room() {
    let stack = Stack::without_workers().await;
    let (cat, small) = (fixtures::photo("cat.jpg"), fixtures::photo("cat.webp"));
    let max = cat.len() + small.len() / 2;
    let client = client_with_limits(&stack, "shop", json!({"stored_bytes_max": max})).await;
    let post = |photo: &[u8]| client.post_job("", "application/octet-stream", photo.to_vec());
    assert_eq!(post(&cat).await.status, 202);
    post(&small).await.problem(429, "quota_exceeded");
    assert_eq!(post(&cat).await.status, 202, "the image is stored already");
    let stored: Vec<i64> = sqlx::query_scalar("select bytes from images where owner = 'shop'")
        .fetch_all(&*stack.db)
        .await
        .unwrap();
    assert_eq!(stored, [cat.len() as i64], "a refused image is not stored");
}

#[tokio::test]
async fn the_default_limits_hold_for_keys_without_their_own_limits() {
    let env = [
        ("DARKROOM_OWNER_QUEUED_JOBS_MAX", "1"),
        ("DARKROOM_KEY_REQUESTS_PER_SECOND", "0.001"),
        ("DARKROOM_KEY_BURST", "7"),
    ];
    let stack = Stack::without_workers_but(&env).await;
    let photo = || fixtures::photo("cat.jpg");
    let first = stack.client.post_job("", "image/jpeg", photo()).await;
    assert_eq!(first.status, 202);
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"requests\";q=7;w=7000")
    );
    let second = stack.client.post_job("", "image/jpeg", photo()).await;
    second.problem(429, "quota_exceeded");
    let unlimited = json!({"queued_jobs_max": 0, "requests_per_second": 0});
    let own = client_with_limits(&stack, given::OWNER, unlimited).await;
    for _ in 0..10 {
        assert_eq!(own.post_job("", "image/jpeg", photo()).await.status, 202);
    }
}

#[tokio::test]
async fn a_priority_above_the_limit_of_the_key_is_refused() {
    let stack = Stack::without_workers().await;
    let photo = || fixtures::photo("cat.jpg");
    let by_default = client_with_limits(&stack, "shop", json!({})).await;
    let raised = client_with_limits(&stack, "shop", json!({"priority_max": 10})).await;
    let submit = async |client: &Client, priority: i16| {
        let query = format!("?priority={priority}");
        client.post_job(&query, "image/jpeg", photo()).await
    };
    for (client, allowed, refused) in [(&by_default, 0, 1), (&raised, 10, 11)] {
        let answer = submit(client, allowed).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
        let answer = submit(client, refused).await;
        answer.problem_at(422, "invalid_params", "/priority");
    }
    let answer = submit(&by_default, -100).await;
    assert!(matches!(answer.status, 200 | 202), "{}", answer.text());

    let image = STANDARD.encode(photo());
    let line = |priority| json!({"image": {"data": image}, "priority": priority}).to_string();
    let lines = format!("{}\n{}\n", line(0), line(100));
    let request = by_default.request(Method::POST, "/v1/batches");
    let request = request.header("content-type", "application/x-ndjson");
    let batch = send(request.body(lines)).await;
    assert_eq!(batch.status, 202, "{}", batch.text());
    assert_eq!(batch.json()["counts"]["refused"], 1, "{}", batch.text());
}

#[tokio::test]
async fn the_default_limit_of_priorities_is_a_setting() {
    let stack = Stack::without_workers_but(&[("DARKROOM_KEY_PRIORITY_MAX", "5")]).await;
    let client = client_with_limits(&stack, "shop", json!({})).await;
    for (priority, status) in [(5, 202), (6, 422)] {
        let photo = fixtures::photo("cat.jpg");
        let query = format!("?priority={priority}");
        let answer = client.post_job(&query, "image/jpeg", photo).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_so_many_open_requests_and_an_answer_makes_room() {
    let stack = Stack::without_workers_but(&[("DARKROOM_KEY_REQUESTS_OPEN_MAX", "2")]).await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let polls: Vec<_> = (0..2)
        .map(|_| {
            let (client, path) = (stack.client.clone(), path.clone());
            tokio::spawn(async move {
                loop {
                    let poll = client.request(Method::GET, &path);
                    let answer = send(poll.header("Prefer", "wait=30")).await;
                    // A request of the check below may have taken the place.
                    if answer.status != 429 {
                        return answer;
                    }
                }
            })
        })
        .collect();
    let wait = std::time::Duration::from_secs(5);
    let refused = tests::eventually(wait, "both polls are open", || async {
        let answer = stack.client.get("/v1/jobs").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let other_key = stack.client_with(Some(&stack.key().await));
    assert_eq!(other_key.get("/v1/jobs").await.status, 200);
    assert_eq!(
        other_key.cancel(job["id"].as_str().unwrap()).await.status,
        200
    );
    for poll in polls {
        assert_eq!(poll.await.unwrap().json()["status"], "canceled");
    }
    tests::eventually(wait, "an answer has made room", || async {
        (stack.client.get("/v1/jobs").await.status == 200).then_some(())
    })
    .await;
}
