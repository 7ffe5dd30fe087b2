//! The prediction cache: what was predicted is not predicted again. The test itself plays the worker.

use std::time::{Duration, Instant};

use jobs::{JobId, queue};
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, client::send, fixtures, given};

/// A submit that says nothing about caches.
async fn submit(client: &Client, query: &str) -> Answer {
    let request = client.plain_request(Method::POST, &format!("/v1/jobs{query}"));
    send(request.body(fixtures::photo("cat.jpg"))).await
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn all_succeed(stack: &Stack) {
    let worker = given::worker(&stack.db, "w").await;
    loop {
        let claims = queue::claim(&stack.db, worker, &[], 10).await.unwrap();
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
async fn the_same_submit_is_answered_at_once_with_what_was_predicted() {
    let stack = Stack::without_workers().await;
    let first = submit(&stack.client, "?top_k=3").await;
    assert_eq!(
        (first.status, &first.json()["cache"]),
        (202, &json!("miss"))
    );
    all_succeed(&stack).await;
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
async fn the_same_work_in_flight_is_joined() {
    let stack = Stack::without_workers().await;
    let first = submit(&stack.client, "").await;
    let queued = submit(&stack.client, "").await;
    let held = given::claimed_by(&stack.db, "w").await;
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
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
    let ended = waiting.await.unwrap();
    assert_eq!((ended.status, id(&ended)), (200, id(&first)));
}

/// Commits wait for submits on their way; whoever waits for another's job is none.
#[tokio::test]
async fn who_waits_for_the_same_work_holds_up_no_commit() {
    let company = ("DARKROOM_ENQUEUE_COMPANY_MS", "60000");
    let stack = Stack::without_workers_but(&[company]).await;
    submit(&stack.client, "").await;
    let held = given::claimed_by(&stack.db, "w").await;
    let waiting = stack.client.plain_request(Method::POST, "/v1/jobs");
    let waiting = waiting.header("Prefer", "wait=60");
    let waiting = tokio::spawn(send(waiting.body(fixtures::photo("cat.jpg"))));
    tests::eventually(Duration::from_secs(20), "it was joined", || async {
        let joined = "darkroom_cached_total{cache=\"joined\"} 1";
        stack.api.metrics().await.contains(joined).then_some(())
    })
    .await;
    let begun = Instant::now();
    let other = submit(&stack.client, "?top_k=4").await;
    assert_eq!(other.status, 202);
    assert!(begun.elapsed() < Duration::from_secs(20));
    let done = [held.completion("cat")];
    tests::settling::complete(&stack.db, &done).await.unwrap();
    assert_eq!(waiting.await.unwrap().status, 200);
}

#[tokio::test]
async fn every_form_of_a_submit_finds_the_prediction() {
    let stack = Stack::without_workers().await;
    let first = submit(&stack.client, "").await;
    all_succeed(&stack).await;
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
async fn a_submit_with_a_wish_of_its_own_gets_a_job_of_its_own() {
    let stack = Stack::without_workers().await;
    let first = id(&submit(&stack.client, "").await);
    all_succeed(&stack).await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let soon = soon.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    for wish in [
        "?top_k=4".to_owned(),
        "?model=efficientnet-lite0-embed".into(),
        "?metadata.listing=1".into(),
        "?retain_for=P7D".into(),
        format!("?run_at={soon}"),
        format!("?deadline={soon}"),
    ] {
        let answer = submit(&stack.client, &wish).await;
        assert_eq!(answer.status, 202, "{wish}: {}", answer.text());
        assert_ne!(id(&answer), first, "{wish}");
        assert_eq!(answer.json()["cache"], "miss", "{wish}");
    }
    let fresh = stack.client.plain_request(Method::POST, "/v1/jobs");
    let fresh = fresh.header("Cache-Control", "max-age=1, no-cache");
    let fresh = send(fresh.body(fixtures::photo("cat.jpg"))).await;
    assert_eq!(
        (fresh.status, fresh.json()["cache"].clone()),
        (202, json!("miss"))
    );
    let other = stack.client_of("bob", &[jobs::keys::Scope::Submit]).await;
    assert_eq!(submit(&other, "").await.status, 202, "owners share nothing");
}

#[tokio::test]
async fn what_failed_was_canceled_or_purged_answers_nobody() {
    let stack = Stack::without_workers().await;
    let canceled = id(&submit(&stack.client, "").await);
    stack.client.cancel(&canceled).await;
    let asked = id(&submit(&stack.client, "").await);
    assert_ne!(asked, canceled);
    given::claimed_by(&stack.db, "w").await;
    assert_eq!(stack.client.cancel(&asked).await.status, 202);
    let purged = id(&submit(&stack.client, "").await);
    assert_ne!(purged, asked, "its cancel was asked for");
    all_succeed(&stack).await;
    let job: JobId = purged.parse().unwrap();
    queue::purge(&stack.db, job, None).await.unwrap();
    let fresh = submit(&stack.client, "").await;
    assert_eq!(fresh.status, 202);
    assert_ne!(id(&fresh), purged);
}

#[tokio::test]
async fn a_planned_job_or_one_that_may_expire_is_not_joined() {
    let stack = Stack::without_workers().await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let soon = soon.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let planned = id(&submit(&stack.client, &format!("?run_at={soon}")).await);
    let expiring = id(&submit(&stack.client, &format!("?deadline={soon}")).await);
    let low = id(&submit(&stack.client, "?priority=-1").await);
    let plain = id(&submit(&stack.client, "").await);
    for other in [&planned, &expiring, &low] {
        assert_ne!(other, &plain);
    }
    let humble = id(&submit(&stack.client, "?priority=-5").await);
    assert_eq!(humble, plain, "it stands before where this one would");
}

#[tokio::test]
async fn a_hit_is_kept_for_as_long_as_was_asked_from_now_on() {
    let stack = Stack::without_workers().await;
    let first = submit(&stack.client, "").await;
    all_succeed(&stack).await;
    let young = submit(&stack.client, "").await.json();
    let hit = submit(&stack.client, "").await.json();
    assert_eq!(
        young["version"], hit["version"],
        "a young hit writes nothing"
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
async fn an_idempotency_key_stands_for_a_hit_as_for_any_job() {
    let stack = Stack::without_workers().await;
    let first = id(&submit(&stack.client, "").await);
    all_succeed(&stack).await;
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
    all_succeed(&stack).await;
    let again = submit(&stack.client, "").await;
    assert_eq!(again.status, 202);
    assert_ne!(id(&again), first);
}

#[tokio::test]
async fn an_image_remembers_its_last_eight_jobs() {
    let stack = Stack::without_workers().await;
    let mut made = Vec::new();
    for top_k in 1..=10 {
        made.push(id(&submit(&stack.client, &format!("?top_k={top_k}")).await));
    }
    let recent: Value = sqlx::query_scalar(
        "select jsonb_agg(ops.job_name(r.id) order by r.place) from images, unnest(recent_jobs) with ordinality as r(id, place)",
    )
    .fetch_one(&*stack.db)
    .await
    .unwrap();
    let newest: Vec<_> = made
        .iter()
        .rev()
        .take(8)
        .cloned()
        .map(Value::from)
        .collect();
    assert_eq!(recent, Value::from(newest));
}
