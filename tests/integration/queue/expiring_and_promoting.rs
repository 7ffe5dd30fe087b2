//! Expire and promote: jobs past a deadline or a run time.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use insta::assert_snapshot;
use jobs::{JobState, queue};
use tests::{clock, dump, given};

#[tokio::test]
async fn a_job_that_is_not_claimed_before_its_deadline_expires() {
    let db = given::database().await;
    let soon = Some(Utc::now() + TimeDelta::hours(1));
    let late = given::queued_with(&db, "late", |job| job.deadline = soon).await;
    let planned = given::queued_with(&db, "planned", |job| {
        job.run_at = Some(Utc::now() + TimeDelta::hours(2));
        job.deadline = soon;
    })
    .await;
    given::queued_with(&db, "in time", |job| job.deadline = soon).await;
    assert_eq!(queue::expire(&*db).await.unwrap().len(), 0);
    clock::deadline_passed(&db, late).await;
    clock::deadline_passed(&db, planned).await;
    assert_eq!(queue::expire(&*db).await.unwrap().len(), 2);
    assert_snapshot!(dump(&db).await, @r"
    late expired lease=0 charged=0/3 interruptions=0/3 problem=deadline_exceeded
    planned expired lease=0 charged=0/3 interruptions=0/3 problem=deadline_exceeded
    in time queued lease=0 charged=0/3 interruptions=0/3
    ");
}

#[tokio::test]
async fn a_running_job_does_not_expire() {
    let db = given::database().await;
    let soon = Some(Utc::now() + TimeDelta::hours(1));
    let begun = given::queued_with(&db, "begun", |job| job.deadline = soon).await;
    given::claimed_by(&db, "w").await;
    clock::deadline_passed(&db, begun).await;
    assert_eq!(queue::expire(&*db).await.unwrap().len(), 0);
    assert_snapshot!(dump(&db).await, @"begun running lease=1 charged=0/3 interruptions=0/3 worker=w");
}

#[tokio::test]
async fn a_scheduled_job_waits_for_its_run_time() {
    let db = given::database().await;
    let tomorrow = Some(Utc::now() + TimeDelta::days(1));
    let planned = given::queued_with(&db, "planned", |job| job.run_at = tomorrow).await;
    let worker = given::worker(&db, "w").await;
    assert_eq!(queue::promote(&*db).await.unwrap().len(), 0);
    assert!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .is_empty()
    );
    assert_snapshot!(dump(&db).await, @"planned scheduled lease=0 charged=0/3 interruptions=0/3");
    clock::came_due(&db, planned).await;
    assert_eq!(queue::promote(&*db).await.unwrap().len(), 1);
    assert_eq!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_job_with_a_past_run_time_is_queued_at_once() {
    let db = given::database().await;
    let past = Some(Utc::now() - TimeDelta::days(1));
    given::queued_with(&db, "past", |job| job.run_at = past).await;
    assert_snapshot!(dump(&db).await, @"past queued lease=0 charged=0/3 interruptions=0/3");
    let held = given::claimed_by(&db, "w").await;
    assert!(
        held.claim.queue_ms < 60_000.0,
        "the wait of a job counts from its submit: {}",
        held.claim.queue_ms
    );
}

#[tokio::test]
async fn an_attempt_ends_by_the_deadline_of_its_job() {
    let db = given::database().await;
    let deadline = Utc::now() + TimeDelta::seconds(5);
    given::queued_with(&db, "urgent", |job| {
        job.deadline = Some(deadline);
        job.attempt_timeout_seconds = 3600;
    })
    .await;
    let urgent = given::claimed_by(&db, "w").await.job_id();
    let ends: chrono::DateTime<Utc> =
        sqlx::query_scalar("select attempt_deadline_at from live_jobs")
            .fetch_one(&*db)
            .await
            .unwrap();
    assert!((ends - deadline).abs() < TimeDelta::milliseconds(1));
    clock::deadline_passed(&db, urgent).await;
    clock::attempt_ran_too_long(&db, urgent).await;
    assert_eq!(queue::time_out(&*db).await.unwrap(), [urgent]);
    assert_snapshot!(dump(&db).await, @r"
    urgent failed lease=2 charged=1/3 interruptions=0/3 worker=w problem=deadline_exceeded
      1 w timed_out charged deadline_exceeded
    ");
}

#[tokio::test]
async fn a_job_past_its_deadline_is_not_claimed() {
    let db = given::database().await;
    let soon = Some(Utc::now() + TimeDelta::hours(1));
    let late = given::queued_with(&db, "late", |job| job.deadline = soon).await;
    clock::deadline_passed(&db, late).await;
    let worker = given::worker(&db, "w").await;
    assert!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(queue::expire(&*db).await.unwrap(), [late]);
}

/// No program writes such a retention, but an administrator may: the end of the retention is out of range.
#[tokio::test]
async fn a_job_that_cannot_expire_does_not_stop_promotion() {
    let db = given::database().await;
    let soon = Some(Utc::now() + TimeDelta::hours(1));
    let stuck = given::queued_with(&db, "stuck", |job| job.deadline = soon).await;
    clock::deadline_passed(&db, stuck).await;
    sqlx::query("update live_jobs set retain_for = '300000 years'")
        .execute(&*db)
        .await
        .unwrap();
    assert!(queue::expire(&*db).await.is_err());
    let planned = given::queued_with(&db, "planned", |job| job.run_at = soon).await;
    sqlx::query("update live_jobs set run_at = now() where job_id = $1")
        .bind(planned.uuid())
        .execute(&*db)
        .await
        .unwrap();
    let housekeeping = tokio::spawn(queue::housekeep(db.another_pool()));
    tests::eventually(
        Duration::from_secs(10),
        "the planned job is promoted",
        || async {
            let job = queue::find(&db, planned, given::OWNER).await.unwrap();
            (job?.state == JobState::Queued).then_some(())
        },
    )
    .await;
    housekeeping.abort();
}
