//! I20, deliveries: one delivery for each event and receiver, leased to one process until its outcome is settled.

use std::{collections::HashMap, time::Duration};

use chrono::Utc;
use jobs::{
    BatchId, JobId,
    events::{Cursor, EventType, Subject, feed, prune_events},
    queue,
    webhooks::{
        self, AttemptResult, ClaimLimits, Delivery, DeliveryAttempt, DeliveryFilter,
        DeliveryOutcome, DeliveryStatus, DeliveryView, Destination, Endpoint, PREVIOUS_SECRETS_MAX,
        Rotation, ScanPosition,
    },
};
use sqlx::PgPool;
use tests::{clock, database::wait_until_done_or_blocked, given};

use super::operating_by_role::acting_as;

const HOOK: &str = "https://hooks.example/own";

async fn ended_job(db: &PgPool, name: &str, webhook_url: Option<&str>) -> JobId {
    let id = given::queued_with(db, name, |job| {
        job.webhook_url = webhook_url.map(Into::into);
    });
    let id = id.await;
    queue::cancel(db, id, None).await.unwrap();
    id
}

async fn endpoint(db: &PgPool, owner: &str, url: &str, events: &[EventType]) -> Endpoint {
    let secret = webhooks::new_secret();
    let made = webhooks::create_endpoint(db, owner, url, events, &secret, 20, (None, None));
    made.await.unwrap().unwrap()
}

pub(super) const MANY: ClaimLimits = ClaimLimits {
    deliveries: 100,
    per_owner: 100,
    per_host: 100,
    lease_seconds: 60.0,
};

pub(super) async fn claim(db: &PgPool) -> Vec<Delivery> {
    claim_beside(db, &MANY, &[]).await
}

/// Claims while the process is sending so many deliveries of an owner to a host.
pub(super) async fn claim_beside(
    db: &PgPool,
    limits: &ClaimLimits,
    sending: &[(&str, &str, i32)],
) -> Vec<Delivery> {
    let destination = |(owner, host, _): &(&str, &str, i32)| Destination {
        owner: (*owner).into(),
        host: (*host).into(),
    };
    let destinations: Vec<_> = sending.iter().map(destination).collect();
    let sends = sending.iter().map(|(_, _, sends)| *sends);
    let sending: HashMap<_, _> = destinations.iter().zip(sends).collect();
    let from = ScanPosition::default();
    let due = webhooks::claim(db, limits, &sending, &from).await;
    due.unwrap().deliveries
}

async fn list_deliveries(db: &PgPool) -> Vec<DeliveryView> {
    let everything = DeliveryFilter::default();
    let all = webhooks::list(db, given::OWNER, &everything, 100);
    all.await.unwrap()
}

fn attempt_with(outcome: DeliveryOutcome) -> AttemptResult {
    AttemptResult {
        outcome,
        began_at: Utc::now(),
        took: Duration::from_millis(7),
        status: Some(200),
        error: None,
    }
}

#[tokio::test]
async fn the_end_of_a_job_is_sent_to_its_webhook_and_to_endpoints_of_its_owner() {
    let db = given::database().await;
    let all = EventType::ALL;
    let receiver = endpoint(&db, given::OWNER, "https://a.example/", &all).await;
    let other_types = [EventType::JobSucceeded, EventType::BatchCompleted];
    endpoint(&db, given::OWNER, "https://b.example/", &other_types).await;
    endpoint(&db, "mallory", "https://c.example/", &all).await;
    let disabled = endpoint(&db, given::OWNER, "https://d.example/", &all).await;
    webhooks::disable_endpoint(&db, disabled.id).await.unwrap();
    let with = ended_job(&db, "with a webhook", Some(HOOK)).await;
    let without = ended_job(&db, "without", None).await;
    let mut claimed: Vec<_> = claim(&db)
        .await
        .into_iter()
        .map(|one| (one.subject, one.url, one.endpoint))
        .collect();
    claimed.sort_by_key(|(subject, url, _)| (*subject != Subject::Job(with), url.clone()));
    let (with, without) = (Subject::Job(with), Subject::Job(without));
    let (endpoint_id, url) = (Some(receiver.id), "https://a.example/".to_owned());
    let expected = [
        (with, url.clone(), endpoint_id),
        (with, HOOK.into(), None),
        (without, url, endpoint_id),
    ];
    assert_eq!(claimed, expected);
}

#[tokio::test]
async fn the_start_of_a_job_is_sent_to_endpoints_and_not_to_its_webhook() {
    let db = given::database().await;
    let starts = [EventType::JobStarted];
    let receiver = endpoint(&db, given::OWNER, "https://a.example/", &starts).await;
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
    let claimed = claim(&db).await;
    let claimed: Vec<_> = claimed
        .iter()
        .map(|one| (one.subject, one.endpoint))
        .collect();
    let expected = (Subject::Job(held.job_id()), Some(receiver.id));
    assert_eq!(claimed, [expected]);
}

#[tokio::test]
async fn no_delivery_is_claimed_before_the_end_is_committed() {
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
    assert!(claim(&db).await.is_empty(), "the end was rolled back");
    tests::settling::complete(&under_way, &[held.completion("cat")])
        .await
        .unwrap();
    sqlx::raw_sql("commit").execute(&under_way).await.unwrap();
    assert_eq!(claim(&db).await.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_batch_is_sent_to_its_webhook_and_to_endpoints() {
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
    let claimed = claim(&db).await;
    assert_eq!(claimed.len(), 2);
    assert!(
        claimed
            .iter()
            .all(|one| one.subject == Subject::Batch(batch))
    );
}

#[tokio::test]
async fn a_delivery_belongs_to_one_process_until_its_lease_ends() {
    let db = given::database().await;
    ended_job(&db, "a", Some(HOOK)).await;
    let first = claim(&db).await.pop().unwrap();
    assert!(claim(&db).await.is_empty());
    clock::webhooks_came_due(&db).await;
    let second = claim(&db).await.pop().unwrap();
    assert_eq!(
        first.id, second.id,
        "the lease ended, so the delivery is claimed again"
    );
    assert!(second.lease_no > first.lease_no);
    let late = webhooks::settle(&db, &first, &attempt_with(DeliveryOutcome::Failed)).await;
    assert!(!late.unwrap(), "the first lease is stale");
    let done = webhooks::settle(&db, &second, &attempt_with(DeliveryOutcome::Delivered)).await;
    assert!(done.unwrap());
    let deliveries = list_deliveries(&db).await;
    assert_eq!(deliveries[0].status, DeliveryStatus::Delivered);
    assert_eq!(deliveries[0].attempts.len(), 1);
}

#[tokio::test]
async fn a_delivery_in_an_uncommitted_claim_is_skipped() {
    let db = given::database().await;
    ended_job(&db, "a", Some(HOOK)).await;
    ended_job(&db, "b", Some(HOOK)).await;
    let uncommitted = db.in_open_transaction().await;
    let one = ClaimLimits {
        deliveries: 1,
        ..MANY
    };
    let taken = claim_beside(&uncommitted, &one, &[]).await;
    let rest = tokio::time::timeout(Duration::from_secs(10), claim(&db));
    let rest = rest
        .await
        .expect("the second claim must not wait for the first");
    assert_eq!(rest.len(), 1);
    assert_ne!(rest[0].id, taken[0].id);
    sqlx::raw_sql("commit").execute(&uncommitted).await.unwrap();
}

#[tokio::test]
async fn a_delivery_is_retried_after_its_pause_and_can_end_failed() {
    let db = given::database().await;
    ended_job(&db, "a", Some(HOOK)).await;
    let first = claim(&db).await.pop().unwrap();
    let later = attempt_with(DeliveryOutcome::Retry(Duration::from_hours(1)));
    webhooks::settle(&db, &first, &later).await.unwrap();
    assert!(claim(&db).await.is_empty());
    let pause = list_deliveries(&db).await[0].next_attempt_at.unwrap() - Utc::now();
    assert!((50..=60).contains(&pause.num_minutes()), "{pause}");
    clock::webhooks_came_due(&db).await;
    let again = claim(&db).await.pop().unwrap();
    assert_eq!((again.id, again.tries), (first.id, 1));
    let failed = attempt_with(DeliveryOutcome::Failed);
    webhooks::settle(&db, &again, &failed).await.unwrap();
    let ended = list_deliveries(&db).await.pop().unwrap();
    assert_eq!(
        (ended.status, ended.next_attempt_at),
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
async fn a_redelivery_waits_for_the_current_lease() {
    let db = given::database().await;
    ended_job(&db, "a", Some(HOOK)).await;
    let held = claim(&db).await.pop().unwrap();
    assert!(
        webhooks::redeliver(&db, held.id, given::OWNER)
            .await
            .unwrap()
    );
    assert!(claim(&db).await.is_empty());
    let late = webhooks::settle(&db, &held, &attempt_with(DeliveryOutcome::Delivered)).await;
    assert!(!late.unwrap(), "the redelivery made the first lease stale");
}

#[tokio::test]
async fn deliveries_to_deleted_and_disabled_endpoints_fail() {
    let db = given::database().await;
    let deleted = endpoint(&db, given::OWNER, "https://a.example/", &EventType::ALL).await;
    let disabled = endpoint(&db, given::OWNER, "https://b.example/", &EventType::ALL).await;
    ended_job(&db, "a", None).await;
    let delete = |owner| webhooks::delete_endpoint(&db, owner, deleted.id, None);
    assert!(!delete("mallory").await.unwrap());
    assert!(delete(given::OWNER).await.unwrap());
    assert!(!delete(given::OWNER).await.unwrap());
    webhooks::disable_endpoint(&db, disabled.id).await.unwrap();
    assert!(claim(&db).await.is_empty());
    let deliveries = list_deliveries(&db).await;
    assert_eq!(deliveries.len(), 2);
    for one in deliveries {
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
async fn a_delivery_keeps_at_most_50_attempts() {
    let db = given::database().await;
    ended_job(&db, "a", Some(HOOK)).await;
    for _ in 0..55 {
        clock::webhooks_came_due(&db).await;
        let held = claim(&db).await.pop().unwrap();
        let again = attempt_with(DeliveryOutcome::Retry(Duration::ZERO));
        webhooks::settle(&db, &held, &again).await.unwrap();
    }
    assert_eq!(list_deliveries(&db).await[0].attempts.len(), 50);
}

#[tokio::test]
async fn a_rotated_secret_stays_valid_beside_the_new_secret() {
    let db = given::database().await;
    let secret = |owner| webhooks::owner_secret(&db, owner);
    let (first, second) = tokio::join!(secret(given::OWNER), secret(given::OWNER));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.secret, second.secret);
    assert_ne!(first.secret, secret("bob").await.unwrap().secret);
    let rotated = rotate(&db).await;
    assert_ne!(rotated.secret, first.secret);
    assert_eq!(rotated.previous[0].0, first.secret);
    ended_job(&db, "a", Some(HOOK)).await;
    let both = [rotated.secret.clone(), first.secret];
    assert_eq!(claim(&db).await[0].secrets, both);
    expire_previous_secrets(&db).await;
    clock::webhooks_came_due(&db).await;
    assert_eq!(claim(&db).await[0].secrets, [rotated.secret]);
}

async fn expire_previous_secrets(db: &PgPool) {
    sqlx::query("update webhook_previous_secrets set valid_until = now()")
        .execute(db)
        .await
        .unwrap();
}

async fn rotate(db: &PgPool) -> webhooks::OwnerSecret {
    match webhooks::rotate_secret(db, given::OWNER, None)
        .await
        .unwrap()
    {
        Rotation::Rotated(secret) => secret,
        Rotation::Refused(until) => panic!("refused until {until}"),
    }
}

#[tokio::test]
async fn every_secret_signs_for_a_day_after_its_rotation_however_many_follow() {
    let db = given::database().await;
    ended_job(&db, "a", Some(HOOK)).await;
    let first = webhooks::owner_secret(&db, given::OWNER).await.unwrap();
    let mut signing = vec![first.secret];
    for _ in 0..PREVIOUS_SECRETS_MAX {
        signing.insert(0, rotate(&db).await.secret);
    }
    assert_eq!(claim(&db).await[0].secrets, signing);
    let one_more = webhooks::rotate_secret(&db, given::OWNER, None)
        .await
        .unwrap();
    assert!(matches!(one_more, Rotation::Refused(_)), "{one_more:?}");
    let current = webhooks::owner_secret(&db, given::OWNER).await.unwrap();
    assert_eq!(
        current.secret, signing[0],
        "a refused rotation changes nothing"
    );
    expire_previous_secrets(&db).await;
    assert_eq!(rotate(&db).await.previous[0].0, signing[0]);
}

/// Makes an endpoint, if the owner has none.
async fn create_only_endpoint(db: PgPool) -> Option<Endpoint> {
    let (url, secret) = ("https://a.example/", webhooks::new_secret());
    let all = EventType::ALL;
    let made = webhooks::create_endpoint(&db, given::OWNER, url, &all, &secret, 1, (None, None));
    made.await.unwrap()
}

#[tokio::test]
async fn concurrent_calls_do_not_pass_the_limit_of_endpoints() {
    let db = given::database().await;
    let uncommitted = db.in_open_transaction().await;
    assert!(create_only_endpoint(uncommitted.clone()).await.is_some());
    let second = tokio::spawn(create_only_endpoint(db.another_pool().pool().clone()));
    wait_until_done_or_blocked(&db, &second).await;
    sqlx::raw_sql("commit").execute(&uncommitted).await.unwrap();
    assert!(second.await.unwrap().is_none(), "there is one already");
}

#[tokio::test]
async fn old_ended_deliveries_are_pruned() {
    let db = given::database().await;
    ended_job(&db, "a", Some(HOOK)).await;
    ended_job(&db, "b", Some(HOOK)).await;
    let done = claim(&db).await.pop().unwrap();
    let delivered = attempt_with(DeliveryOutcome::Delivered);
    webhooks::settle(&db, &done, &delivered).await.unwrap();
    assert_eq!(webhooks::prune_deliveries(&db, 60.0).await.unwrap(), 0);
    assert_eq!(webhooks::prune_deliveries(&db, -60.0).await.unwrap(), 1);
    assert_eq!(list_deliveries(&db).await.len(), 1);
}

#[tokio::test]
async fn darkroom_api_can_deliver_webhooks_and_darkroom_worker_cannot() {
    let db = given::database().await;
    let api = acting_as(&db, "darkroom_api");
    ended_job(&db, "a", Some(HOOK)).await;
    let made = endpoint(&api, given::OWNER, "https://a.example/", &EventType::ALL).await;
    ended_job(&db, "b", None).await;
    webhooks::endpoints(&api, given::OWNER).await.unwrap();
    webhooks::rotate_secret(&api, given::OWNER, None)
        .await
        .unwrap();
    let claimed = claim(&api).await;
    assert_eq!(claimed.len(), 2);
    let delivered = attempt_with(DeliveryOutcome::Delivered);
    webhooks::settle(&api, &claimed[0], &delivered)
        .await
        .unwrap();
    assert!(
        webhooks::redeliver(&api, claimed[0].id, given::OWNER)
            .await
            .unwrap()
    );
    webhooks::disable_endpoint(&api, made.id).await.unwrap();
    webhooks::delete_endpoint(&api, given::OWNER, made.id, None)
        .await
        .unwrap();
    webhooks::prune_deliveries(&api, -60.0).await.unwrap();
    list_deliveries(&api).await;
    let page = feed(&api, given::OWNER, Cursor::BEGINNING, &[], 10).await;
    page.unwrap();
    prune_events(&api, 60.0).await.unwrap();

    let worker = acting_as(&db, "darkroom_worker");
    let nothing = HashMap::new();
    let refused = webhooks::claim(&*worker, &MANY, &nothing, &ScanPosition::default()).await;
    assert!(
        refused
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
