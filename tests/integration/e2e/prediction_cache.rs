//! The prediction cache: a repeated submit gets the job that exists. The tests play the worker.

use std::time::{Duration, Instant};

use jobs::{JobId, queue};
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, client::send, fixtures, given};

/// Submits without a `Cache-Control` header.
async fn submit(client: &Client, query: &str) -> Answer {
    let request = client.plain_request(Method::POST, &format!("/v1/jobs{query}"));
    send(request.body(fixtures::photo("cat.jpg"))).await
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn complete_all_jobs(stack: &Stack) {
    let worker = given::worker(&stack.db, "w").await;
    loop {
        let claims = tests::claiming::claim(&stack.db, worker, &[], 10)
            .await
            .unwrap();
        if claims.is_empty() {
            return;
        }
        let done: Vec<_> = claims
            .iter()
            .map(|claim| given::completion(claim.lease, "cat"))
            .collect();
        tests::settling::complete(&stack.db, &done).await.unwrap();
    }
}

#[tokio::test]
async fn a_repeated_submit_is_answered_with_the_stored_prediction() {
    let stack = Stack::without_workers().await;
    let first = submit(&stack.client, "?top_k=3").await;
    assert_eq!(
        (first.status, &first.json()["cache"]),
        (202, &json!("miss"))
    );
    complete_all_jobs(&stack).await;
    let again = submit(&stack.client, "?top_k=3&model=efficientnet-lite0:1").await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(id(&again), id(&first));
    let job = again.json();
    assert_eq!(
        (&job["cache"], &job["status"]),
        (&json!("hit"), &json!("succeeded"))
    );
    assert_eq!(job["result"], json!({"answer": "cat"}));
    assert_eq!(
        again.header("location"),
        Some(format!("/v1/jobs/{}", id(&first)).as_str())
    );
}

#[tokio::test]
async fn a_repeated_submit_joins_the_live_job() {
    let stack = Stack::without_workers().await;
    let first = submit(&stack.client, "").await;
    let queued = submit(&stack.client, "").await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    let running = submit(&stack.client, "").await;
    for (joined, status) in [(queued, "queued"), (running, "running")] {
        assert_eq!(joined.status, 202);
        assert_eq!(id(&joined), id(&first));
        let job = joined.json();
        assert_eq!(
            (&job["cache"], &job["status"]),
            (&json!("joined"), &json!(status))
        );
    }
    let waiting = stack.client.plain_request(Method::POST, "/v1/jobs");
    let waiting = waiting
        .header("Prefer", "wait=20")
        .body(fixtures::photo("cat.jpg"));
    let waiting = tokio::spawn(send(waiting));
    tests::settling::complete(&stack.db, &[claimed.completion("cat")])
        .await
        .unwrap();
    let ended = waiting.await.unwrap();
    assert_eq!((ended.status, id(&ended)), (200, id(&first)));
}

/// A commit waits for pending uploads. A submit that waits for a joined job is not one of them.
#[tokio::test]
async fn a_submit_that_waits_for_a_joined_job_delays_no_commit() {
    let commit_wait = ("DARKROOM_ENQUEUE_COMPANY_MS", "60000");
    let stack = Stack::without_workers_but(&[commit_wait]).await;
    submit(&stack.client, "").await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    let waiting = stack.client.plain_request(Method::POST, "/v1/jobs");
    let waiting = waiting.header("Prefer", "wait=60");
    let waiting = tokio::spawn(send(waiting.body(fixtures::photo("cat.jpg"))));
    tests::eventually(Duration::from_secs(20), "the job was joined", || async {
        let joined = "darkroom_cached_total{cache=\"joined\"} 1";
        stack.api.metrics().await.contains(joined).then_some(())
    })
    .await;
    let begun = Instant::now();
    let other = submit(&stack.client, "?top_k=4").await;
    assert_eq!(other.status, 202);
    assert!(begun.elapsed() < Duration::from_secs(20));
    let done = [claimed.completion("cat")];
    tests::settling::complete(&stack.db, &done).await.unwrap();
    assert_eq!(waiting.await.unwrap().status, 200);
}

#[tokio::test]
async fn every_form_of_a_submit_finds_the_prediction() {
    let stack = Stack::without_workers().await;
    let first = submit(&stack.client, "").await;
    complete_all_jobs(&stack).await;
    let form =
        multipart::Form::new().part("image", multipart::Part::bytes(fixtures::photo("cat.jpg")));
    let form = stack
        .client
        .plain_request(Method::POST, "/v1/jobs")
        .multipart(form);
    let image = first.json()["input"]["image"].clone();
    let named = stack.client.plain_request(Method::POST, "/v1/jobs");
    let named = named.json(&json!({"image": {"sha256": image}}));
    for request in [form, named] {
        let answer = send(request).await;
        assert_eq!((answer.status, id(&answer)), (200, id(&first)));
    }
}

#[tokio::test]
async fn a_submit_with_other_settings_gets_a_new_job() {
    let stack = Stack::without_workers().await;
    let first = id(&submit(&stack.client, "").await);
    complete_all_jobs(&stack).await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let soon = soon.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    for query in [
        "?top_k=4".to_owned(),
        "?model=efficientnet-lite0-embed".into(),
        "?metadata.listing=1".into(),
        "?retain_for=P7D".into(),
        format!("?run_at={soon}"),
        format!("?deadline={soon}"),
    ] {
        let answer = submit(&stack.client, &query).await;
        assert_eq!(answer.status, 202, "{query}: {}", answer.text());
        assert_ne!(id(&answer), first, "{query}");
        assert_eq!(answer.json()["cache"], "miss", "{query}");
    }
    let fresh = stack.client.plain_request(Method::POST, "/v1/jobs");
    let fresh = fresh.header("Cache-Control", "max-age=1, no-cache");
    let fresh = send(fresh.body(fixtures::photo("cat.jpg"))).await;
    assert_eq!(
        (fresh.status, fresh.json()["cache"].clone()),
        (202, json!("miss"))
    );
    let other = stack.client_of("bob", &[jobs::keys::Scope::Submit]).await;
    assert_eq!(
        submit(&other, "").await.status,
        202,
        "owners share no predictions"
    );
}

#[tokio::test]
async fn a_canceled_or_purged_job_answers_no_submit() {
    let stack = Stack::without_workers().await;
    let canceled = id(&submit(&stack.client, "").await);
    stack.client.cancel(&canceled).await;
    let cancel_requested = id(&submit(&stack.client, "").await);
    assert_ne!(cancel_requested, canceled);
    given::claimed_by(&stack.db, "w").await;
    assert_eq!(stack.client.cancel(&cancel_requested).await.status, 202);
    let purged = id(&submit(&stack.client, "").await);
    assert_ne!(
        purged, cancel_requested,
        "a job with a requested cancel is not joined"
    );
    complete_all_jobs(&stack).await;
    let job: JobId = purged.parse().unwrap();
    queue::purge(&stack.db, job, None).await.unwrap();
    let fresh = submit(&stack.client, "").await;
    assert_eq!(fresh.status, 202);
    assert_ne!(id(&fresh), purged);
}

#[tokio::test]
async fn a_scheduled_expiring_or_lower_priority_job_is_not_joined() {
    let stack = Stack::without_workers().await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let soon = soon.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let scheduled = id(&submit(&stack.client, &format!("?run_at={soon}")).await);
    let expiring = id(&submit(&stack.client, &format!("?deadline={soon}")).await);
    let lower = id(&submit(&stack.client, "?priority=-1").await);
    let plain = id(&submit(&stack.client, "").await);
    for other in [&scheduled, &expiring, &lower] {
        assert_ne!(other, &plain);
    }
    let joined = id(&submit(&stack.client, "?priority=-5").await);
    assert_eq!(joined, plain, "a job of higher priority is joined");
}

#[tokio::test]
async fn a_hit_extends_the_retention_of_its_job() {
    let stack = Stack::without_workers().await;
    let first = submit(&stack.client, "").await;
    complete_all_jobs(&stack).await;
    let first_hit = submit(&stack.client, "").await.json();
    let second_hit = submit(&stack.client, "").await.json();
    assert_eq!(
        first_hit["version"], second_hit["version"],
        "a hit on a recent job writes nothing"
    );
    sqlx::query("update finished_jobs set retain_until = now() + interval '1 minute'")
        .execute(&*stack.db)
        .await
        .unwrap();
    let old = submit(&stack.client, "").await;
    assert_eq!((old.status, id(&old)), (200, id(&first)));
    let until: chrono::DateTime<chrono::Utc> = old.json()["retain_until"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        until > chrono::Utc::now() + chrono::TimeDelta::days(29),
        "{until}"
    );
}

#[tokio::test]
async fn an_idempotency_key_replays_a_hit() {
    let stack = Stack::without_workers().await;
    let first = id(&submit(&stack.client, "").await);
    complete_all_jobs(&stack).await;
    let keyed = |query: &str| {
        let request = stack
            .client
            .plain_request(Method::POST, &format!("/v1/jobs{query}"));
        send(
            request
                .header("Idempotency-Key", "k")
                .body(fixtures::photo("cat.jpg")),
        )
    };
    let hit = keyed("").await;
    assert_eq!(
        (hit.status, id(&hit), hit.header("idempotent-replayed")),
        (200, first.clone(), None)
    );
    let replayed = keyed("").await;
    assert_eq!((replayed.status, id(&replayed)), (200, first));
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    keyed("?top_k=2")
        .await
        .problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn the_cache_can_be_turned_off() {
    let stack = Stack::without_workers_but(&[("DARKROOM_NO_PREDICTION_CACHE", "true")]).await;
    let first = id(&submit(&stack.client, "").await);
    complete_all_jobs(&stack).await;
    let again = submit(&stack.client, "").await;
    assert_eq!(again.status, 202);
    assert_ne!(id(&again), first);
}

#[tokio::test]
async fn an_image_row_names_its_last_eight_jobs() {
    let stack = Stack::without_workers().await;
    let mut ids = Vec::new();
    for top_k in 1..=10 {
        ids.push(id(&submit(&stack.client, &format!("?top_k={top_k}")).await));
    }
    let recent: Value = sqlx::query_scalar(
        "select jsonb_agg(ops.job_name(r.id) order by r.place) from images, unnest(recent_jobs) with ordinality as r(id, place)",
    )
    .fetch_one(&*stack.db)
    .await
    .unwrap();
    let newest: Vec<_> = ids.iter().rev().take(8).cloned().map(Value::from).collect();
    assert_eq!(recent, Value::from(newest));
}
