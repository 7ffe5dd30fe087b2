//! Retry, time-out and failure: budgets and backoff.

use insta::assert_snapshot;
use jobs::{
    JobId, Problem, ProblemCode,
    queue::{self, QueueError},
};
use sqlx::PgPool;
use tests::{clock, dump, given};

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

async fn backoff_seconds(db: &PgPool, job: JobId) -> f64 {
    sqlx::query_scalar(
        "select extract(epoch from run_at - now())::float8 from live_jobs where job_id = $1",
    )
    .bind(job.uuid())
    .fetch_one(db)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_retried_job_backs_off_and_ends_failed_when_its_attempts_are_spent() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    for (name, nominal_seconds) in [("one", 1.0), ("two", 2.0)] {
        let held = given::claimed_by(&db, name).await;
        tests::settling::retry(&db, &[(held.lease(), fault())])
            .await
            .unwrap();
        let waits = backoff_seconds(&db, held.job_id()).await / nominal_seconds;
        assert!((0.5..=1.25).contains(&waits), "{name} waits {waits}");
        clock::came_due(&db, held.job_id()).await;
        assert_eq!(queue::promote(&*db).await.unwrap().len(), 1);
    }
    let held = given::claimed_by(&db, "three").await;
    tests::settling::retry(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    assert_snapshot!(dump(&db).await, @r"
    cat failed lease=5 charged=3/3 interruptions=0/3 worker=three problem=model_error
      1 one retried charged model_error
      2 two retried charged model_error
      3 three failed charged model_error
    ");
}

#[tokio::test]
async fn a_job_that_backs_off_is_not_claimed() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::retry(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    clock::stays_scheduled(&db, held.job_id()).await;
    assert_eq!(queue::promote(&*db).await.unwrap().len(), 0);
    assert!(
        tests::claiming::claim(&db, held.worker, &[], 1)
            .await
            .unwrap()
            .is_empty()
    );
    assert_snapshot!(dump(&db).await, @r"
    cat scheduled lease=2 charged=1/3 interruptions=0/3 problem=model_error
      1 w retried charged model_error
    ");
}

/// The backoff doubles up to ten minutes, for any number of attempts.
#[tokio::test]
async fn the_backoff_has_a_ceiling() {
    let db = given::database().await;
    let job = given::queued_with(&db, "patient", |job| job.attempts_max = 100).await;
    sqlx::query("update live_jobs set attempts_charged = 60")
        .execute(&*db)
        .await
        .unwrap();
    let held = given::claimed_by(&db, "w").await;
    tests::settling::retry(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    let waits = backoff_seconds(&db, job).await;
    assert!((440.0..=750.0).contains(&waits), "{waits}");
}

/// Jobs that failed at one moment must not all return at one moment.
#[tokio::test]
async fn the_backoff_has_jitter() {
    let db = given::database().await;
    let jobs = given::queued(&db, ["a", "b", "c", "d", "e", "f"]).await;
    let worker = given::worker(&db, "w").await;
    let claims = tests::claiming::claim(&db, worker, &[], 6).await.unwrap();
    let faults: Vec<_> = claims.iter().map(|claim| (claim.lease, fault())).collect();
    tests::settling::retry(&db, &faults).await.unwrap();
    let moments: i64 = sqlx::query_scalar("select count(distinct run_at) from live_jobs")
        .fetch_one(&*db)
        .await
        .unwrap();
    assert!(moments > 1, "{} jobs come back at once", jobs.len());
}

/// I11: a second attempt with that image would fail too.
#[tokio::test]
async fn a_permanent_fault_ends_the_job_at_the_first_attempt() {
    let db = given::database().await;
    given::queued(&db, ["torn"]).await;
    let held = given::claimed_by(&db, "w").await;
    let torn = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    assert_eq!(
        tests::settling::fail(&db, &[(held.lease(), torn)])
            .await
            .unwrap(),
        [held.job_id()]
    );
    assert_snapshot!(dump(&db).await, @r"
    torn failed lease=1 charged=1/3 interruptions=0/3 worker=w problem=image_undecodable
      1 w failed charged image_undecodable
    ");
}

#[tokio::test]
async fn an_attempt_that_runs_too_long_is_charged_and_retried() -> Result<(), QueueError> {
    let db = given::database().await;
    let [slow, _quick] = given::queued(&db, ["slow", "quick"]).await;
    let held = given::claimed_by(&db, "w").await;
    given::claimed_by(&db, "v").await;
    clock::attempt_ran_too_long(&db, slow).await;
    assert_eq!(queue::time_out(&*db).await?.len(), 1);
    assert_snapshot!(dump(&db).await, @r"
    slow scheduled lease=2 charged=1/3 interruptions=0/3 problem=attempt_timed_out
      1 w timed_out charged attempt_timed_out
    quick running lease=1 charged=0/3 interruptions=0/3 worker=v
    ");
    let landed = tests::settling::complete(&db, &[held.completion("too late")]).await?;
    assert_eq!(landed, [], "the late result is dropped");
    Ok(())
}

#[tokio::test]
async fn a_job_whose_attempts_all_run_too_long_ends_failed() {
    let db = given::database().await;
    let job = given::queued_with(&db, "slow", |job| job.attempts_max = 2).await;
    for name in ["one", "two"] {
        given::claimed_by(&db, name).await;
        clock::attempt_ran_too_long(&db, job).await;
        assert_eq!(queue::time_out(&*db).await.unwrap().len(), 1);
        if name == "one" {
            clock::came_due(&db, job).await;
            queue::promote(&*db).await.unwrap();
        }
    }
    assert_snapshot!(dump(&db).await, @r"
    slow failed lease=4 charged=2/2 interruptions=0/3 worker=two problem=attempt_timed_out
      1 one timed_out charged attempt_timed_out
      2 two timed_out charged attempt_timed_out
    ");
}
