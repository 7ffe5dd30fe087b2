//! I20, the second half: what is to be told to whom, held by one process at a time until it says what came of it.

use std::time::Duration;

use chrono::Utc;
use jobs::{
    BatchId, JobId,
    events::{Cursor, EventType, Subject, feed, prune_events},
    queue,
    webhooks::{
        self, AttemptResult, Delivery, DeliveryAttempt, DeliveryFilter, DeliveryOutcome,
        DeliveryStatus, DeliveryView, Endpoint, HostLoad,
    },
};
use sqlx::PgPool;
use tests::{clock, given};

use super::operating_by_role::acting_as;

const HOOK: &str = "https://hooks.example/own";

async fn ended(db: &PgPool, name: &str, webhook_url: Option<&str>) -> JobId {
    let id = given::queued_with(db, name, |job| {
        job.webhook_url = webhook_url.map(Into::into);
    });
    let id = id.await;
    queue::cancel(db, id, None).await.unwrap();
    id
}

async fn endpoint(db: &PgPool, owner: &str, url: &str, events: &[EventType]) -> Endpoint {
    let secret = webhooks::new_secret();
    let made = webhooks::create_endpoint(db, owner, url, events, &secret, 20);
    made.await.unwrap().unwrap()
}

async fn claim(db: &PgPool) -> Vec<Delivery> {
    webhooks::claim(db, 100, 100, &[], 60.0).await.unwrap()
}

async fn listed(db: &PgPool) -> Vec<DeliveryView> {
    let everything = DeliveryFilter::default();
    let all = webhooks::list(db, given::OWNER, &everything, 100);
    all.await.unwrap()
}

fn came_to(outcome: DeliveryOutcome) -> AttemptResult {
    AttemptResult {
        outcome,
        began_at: Utc::now(),
        took: Duration::from_millis(7),
        status: Some(200),
        error: None,
    }
}

#[tokio::test]
async fn an_end_is_told_to_the_jobs_own_webhook_and_to_its_owners_endpoints_that_want_it() {
    let db = given::database().await;
    let all = EventType::ALL;
    let wants_it = endpoint(&db, given::OWNER, "https://a.example/", &all).await;
    let wants_others = [EventType::JobSucceeded, EventType::BatchCompleted];
    endpoint(&db, given::OWNER, "https://b.example/", &wants_others).await;
    endpoint(&db, "mallory", "https://c.example/", &all).await;
    let gone = endpoint(&db, given::OWNER, "https://d.example/", &all).await;
    webhooks::disable_endpoint(&db, gone.id).await.unwrap();
    let with = ended(&db, "with its own", Some(HOOK)).await;
    let without = ended(&db, "without", None).await;
    let mut told: Vec<_> = claim(&db)
        .await
        .into_iter()
        .map(|one| (one.subject, one.url, one.endpoint))
        .collect();
    told.sort_by_key(|(subject, url, _)| (*subject != Subject::Job(with), url.clone()));
    let (with, without) = (Subject::Job(with), Subject::Job(without));
    let (wants_it, its_url) = (Some(wants_it.id), "https://a.example/".to_owned());
    let expected = [
        (with, its_url.clone(), wants_it),
        (with, HOOK.into(), None),
        (without, its_url, wants_it),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_start_is_told_to_endpoints_that_want_it_and_not_to_the_jobs_own_webhook() {
    let db = given::database().await;
    let starts = [EventType::JobStarted];
    let wants_it = endpoint(&db, given::OWNER, "https://a.example/", &starts).await;
    endpoint(
        &db,
        given::OWNER,
        "https://b.example/",
        &[EventType::JobFailed],
    )
    .await;
    endpoint(&db, "mallory", "https://c.example/", &starts).await;
    given::queued_with(&db, "a", |job| job.webhook_url = Some(HOOK.into())).await;
    let held = given::claimed_by(&db, "w").await;
    let told = claim(&db).await;
    let told: Vec<_> = told.iter().map(|one| (one.subject, one.endpoint)).collect();
    let expected = (Subject::Job(held.job_id()), Some(wants_it.id));
    assert_eq!(told, [expected]);
}

#[tokio::test]
async fn nothing_is_told_before_the_end_is_committed() {
    let db = given::database().await;
    given::queued_with(&db, "a", |job| job.webhook_url = Some(HOOK.into())).await;
    let held = given::claimed_by(&db, "w").await;
    let under_way = db.in_open_transaction().await;
    tests::settling::complete(&under_way, &[held.completion("cat")])
        .await
        .unwrap();
    assert!(claim(&db).await.is_empty());
    sqlx::raw_sql("rollback; begin")
        .execute(&under_way)
        .await
        .unwrap();
    assert!(claim(&db).await.is_empty(), "it never happened");
    tests::settling::complete(&under_way, &[held.completion("cat")])
        .await
        .unwrap();
    sqlx::raw_sql("commit").execute(&under_way).await.unwrap();
    assert_eq!(claim(&db).await.len(), 1);
}

#[tokio::test]
async fn the_news_of_a_batch_go_to_its_own_webhook_and_to_endpoints() {
    let db = given::database().await;
    endpoint(&db, given::OWNER, "https://a.example/", &EventType::ALL).await;
    let batch = BatchId::now();
    sqlx::query("select publish_event($1, 'batch.completed', $2, $3)")
        .bind(given::OWNER)
        .bind(batch.uuid())
        .bind(HOOK)
        .execute(&*db)
        .await
        .unwrap();
    let told = claim(&db).await;
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|one| one.subject == Subject::Batch(batch)));
}

#[tokio::test]
async fn what_one_process_is_sending_no_other_takes_until_its_lease_is_over() {
    let db = given::database().await;
    ended(&db, "a", Some(HOOK)).await;
    let first = claim(&db).await.pop().unwrap();
    assert!(claim(&db).await.is_empty());
    clock::webhooks_came_due(&db).await;
    let second = claim(&db).await.pop().unwrap();
    assert_eq!(first.id, second.id, "the same message");
    assert!(second.lease_no > first.lease_no);
    let late = webhooks::settle(&db, &first, &came_to(DeliveryOutcome::Failed)).await;
    assert!(!late.unwrap(), "it has no say any more");
    let done = webhooks::settle(&db, &second, &came_to(DeliveryOutcome::Delivered)).await;
    assert!(done.unwrap());
    let told = listed(&db).await;
    assert_eq!(told[0].status, DeliveryStatus::Delivered);
    assert_eq!(told[0].attempts.len(), 1);
}

#[tokio::test]
async fn a_delivery_that_another_process_is_claiming_is_passed_over() {
    let db = given::database().await;
    ended(&db, "a", Some(HOOK)).await;
    ended(&db, "b", Some(HOOK)).await;
    let rival = db.in_open_transaction().await;
    let taken = webhooks::claim(&rival, 1, 100, &[], 60.0).await.unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(10), claim(&db));
    let rest = rest.await.expect("nobody waits for the other");
    assert_eq!(rest.len(), 1);
    assert_ne!(rest[0].id, taken[0].id);
    sqlx::raw_sql("commit").execute(&rival).await.unwrap();
}

#[tokio::test]
async fn a_host_has_no_more_at_once_than_it_may_and_does_not_hold_back_the_others() {
    let db = given::database().await;
    for name in ["a", "b", "c", "d"] {
        ended(&db, name, Some("https://slow.example/hook")).await;
    }
    ended(&db, "e", Some("https://quick.example/hook")).await;
    let hosts = |told: Vec<Delivery>| {
        let mut hosts: Vec<_> = told.into_iter().map(|one| one.host).collect();
        hosts.sort();
        hosts
    };
    let busy = [HostLoad {
        host: "slow.example".into(),
        sends: 1,
    }];
    let told = webhooks::claim(&db, 100, 3, &busy, 60.0).await.unwrap();
    assert_eq!(
        hosts(told),
        ["quick.example", "slow.example", "slow.example"]
    );
    let full = [HostLoad {
        host: "slow.example".into(),
        sends: 3,
    }];
    let told = webhooks::claim(&db, 100, 3, &full, 60.0).await.unwrap();
    assert_eq!(hosts(told), [""; 0]);
    assert_eq!(hosts(claim(&db).await).len(), 2);
}

#[tokio::test]
async fn a_delivery_that_failed_comes_back_when_its_pause_is_over_and_ends_when_it_is_given_up() {
    let db = given::database().await;
    ended(&db, "a", Some(HOOK)).await;
    let first = claim(&db).await.pop().unwrap();
    let later = came_to(DeliveryOutcome::Retry(Duration::from_hours(1)));
    webhooks::settle(&db, &first, &later).await.unwrap();
    assert!(claim(&db).await.is_empty());
    let pause = listed(&db).await[0].next_attempt_at.unwrap() - Utc::now();
    assert!((50..=60).contains(&pause.num_minutes()), "{pause}");
    clock::webhooks_came_due(&db).await;
    let again = claim(&db).await.pop().unwrap();
    assert_eq!((again.id, again.tries), (first.id, 1));
    let failed = came_to(DeliveryOutcome::Failed);
    webhooks::settle(&db, &again, &failed).await.unwrap();
    let told = listed(&db).await.pop().unwrap();
    assert_eq!(
        (told.status, told.next_attempt_at),
        (DeliveryStatus::Failed, None)
    );

    assert!(
        webhooks::redeliver(&db, first.id, given::OWNER)
            .await
            .unwrap()
    );
    let by_hand = claim(&db).await.pop().unwrap();
    assert_eq!((by_hand.id, by_hand.tries), (first.id, 0));
    assert!(!webhooks::redeliver(&db, first.id, "mallory").await.unwrap());
}

#[tokio::test]
async fn a_redelivery_waits_for_whoever_is_sending_it_now() {
    let db = given::database().await;
    ended(&db, "a", Some(HOOK)).await;
    let held = claim(&db).await.pop().unwrap();
    assert!(
        webhooks::redeliver(&db, held.id, given::OWNER)
            .await
            .unwrap()
    );
    assert!(claim(&db).await.is_empty());
    let late = webhooks::settle(&db, &held, &came_to(DeliveryOutcome::Delivered)).await;
    assert!(!late.unwrap(), "it was asked for after that one began");
}

#[tokio::test]
async fn what_was_on_its_way_to_an_endpoint_that_is_no_more_is_given_up() {
    let db = given::database().await;
    let deleted = endpoint(&db, given::OWNER, "https://a.example/", &EventType::ALL).await;
    let gone = endpoint(&db, given::OWNER, "https://b.example/", &EventType::ALL).await;
    ended(&db, "a", None).await;
    let delete = |owner| webhooks::delete_endpoint(&db, owner, deleted.id);
    assert!(!delete("mallory").await.unwrap());
    assert!(delete(given::OWNER).await.unwrap());
    assert!(!delete(given::OWNER).await.unwrap());
    webhooks::disable_endpoint(&db, gone.id).await.unwrap();
    assert!(claim(&db).await.is_empty());
    let told = listed(&db).await;
    assert_eq!(told.len(), 2);
    for one in told {
        assert_eq!(one.status, DeliveryStatus::Failed);
        let [DeliveryAttempt { error, .. }] = &one.attempts[..] else {
            panic!("{one:?}")
        };
        assert!(error.is_some());
    }
    let left = webhooks::endpoints(&db, given::OWNER).await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].disabled_at.is_some());
}

#[tokio::test]
async fn the_log_of_a_delivery_is_bounded() {
    let db = given::database().await;
    ended(&db, "a", Some(HOOK)).await;
    for _ in 0..55 {
        clock::webhooks_came_due(&db).await;
        let held = claim(&db).await.pop().unwrap();
        let again = came_to(DeliveryOutcome::Retry(Duration::ZERO));
        webhooks::settle(&db, &held, &again).await.unwrap();
    }
    assert_eq!(listed(&db).await[0].attempts.len(), 50);
}

#[tokio::test]
async fn an_owner_has_one_secret_until_it_is_rotated_and_two_for_a_day_then() {
    let db = given::database().await;
    let secret = |owner| webhooks::owner_secret(&db, owner);
    let (first, same) = tokio::join!(secret(given::OWNER), secret(given::OWNER));
    let (first, same) = (first.unwrap(), same.unwrap());
    assert_eq!(first.secret, same.secret);
    assert_ne!(first.secret, secret("bob").await.unwrap().secret);
    let rotated = webhooks::rotate_secret(&db, given::OWNER).await.unwrap();
    assert_ne!(rotated.secret, first.secret);
    assert_eq!(rotated.previous.unwrap().0, first.secret);
    ended(&db, "a", Some(HOOK)).await;
    let both = [rotated.secret.clone(), first.secret];
    assert_eq!(claim(&db).await[0].secrets, both);
    sqlx::query("update webhook_secrets set previous_until = now()")
        .execute(&*db)
        .await
        .unwrap();
    clock::webhooks_came_due(&db).await;
    assert_eq!(claim(&db).await[0].secrets, [rotated.secret]);
}

#[tokio::test]
async fn deliveries_that_ended_long_ago_are_removed() {
    let db = given::database().await;
    ended(&db, "a", Some(HOOK)).await;
    ended(&db, "b", Some(HOOK)).await;
    let done = claim(&db).await.pop().unwrap();
    let delivered = came_to(DeliveryOutcome::Delivered);
    webhooks::settle(&db, &done, &delivered).await.unwrap();
    assert_eq!(webhooks::prune_deliveries(&db, 60.0).await.unwrap(), 0);
    assert_eq!(webhooks::prune_deliveries(&db, -60.0).await.unwrap(), 1);
    assert_eq!(listed(&db).await.len(), 1);
}

#[tokio::test]
async fn the_role_of_the_api_may_tell_and_that_of_workers_may_not() {
    let db = given::database().await;
    let api = acting_as(&db, "darkroom_api");
    ended(&db, "a", Some(HOOK)).await;
    let made = endpoint(&api, given::OWNER, "https://a.example/", &EventType::ALL).await;
    ended(&db, "b", None).await;
    webhooks::endpoints(&api, given::OWNER).await.unwrap();
    webhooks::rotate_secret(&api, given::OWNER).await.unwrap();
    let told = claim(&api).await;
    assert_eq!(told.len(), 2);
    let delivered = came_to(DeliveryOutcome::Delivered);
    webhooks::settle(&api, &told[0], &delivered).await.unwrap();
    assert!(
        webhooks::redeliver(&api, told[0].id, given::OWNER)
            .await
            .unwrap()
    );
    webhooks::disable_endpoint(&api, made.id).await.unwrap();
    webhooks::delete_endpoint(&api, given::OWNER, made.id)
        .await
        .unwrap();
    webhooks::prune_deliveries(&api, -60.0).await.unwrap();
    listed(&api).await;
    let page = feed(&api, given::OWNER, Cursor::BEGINNING, &[], 10).await;
    page.unwrap();
    prune_events(&api, 60.0).await.unwrap();

    let worker = acting_as(&db, "darkroom_worker");
    let claimed = webhooks::claim(&worker, 1, 1, &[], 60.0).await;
    assert!(
        claimed
            .unwrap_err()
            .to_string()
            .contains("permission denied")
    );
    let secret = webhooks::owner_secret(&worker, given::OWNER).await;
    assert!(
        secret
            .unwrap_err()
            .to_string()
            .contains("permission denied")
    );
}
