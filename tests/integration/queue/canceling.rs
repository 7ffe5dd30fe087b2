//! Cancel in every state; I13: an acknowledged cancel never becomes a success.

use insta::assert_snapshot;
use jobs::{
    JobState, Problem, ProblemCode,
    queue::{self, CancelOutcome},
};
use tests::{clock, database::wait_for_a_blocked_statement, dump, given};

const OWNER: Option<&str> = Some(given::OWNER);

#[tokio::test]
async fn cancel_ends_a_queued_job_at_once() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    assert_eq!(
        queue::cancel(&db, cat, OWNER).await.unwrap(),
        CancelOutcome::AtOnce
    );
    assert_snapshot!(dump(&db).await, @"cat canceled lease=0 charged=0/3 interruptions=0/3");
    let worker = given::worker(&db, "w").await;
    assert!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn cancel_ends_a_scheduled_job_at_once() {
    let db = given::database().await;
    let tomorrow = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let cat = given::queued_with(&db, "cat", |job| job.run_at = Some(tomorrow)).await;
    assert_eq!(
        queue::cancel(&db, cat, OWNER).await.unwrap(),
        CancelOutcome::AtOnce
    );
    assert_snapshot!(dump(&db).await, @"cat canceled lease=0 charged=0/3 interruptions=0/3");
}

#[tokio::test]
async fn a_running_job_with_a_requested_cancel_ends_canceled_after_a_completion() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    for _ in 0..2 {
        assert_eq!(
            queue::cancel(&db, cat, OWNER).await.unwrap(),
            CancelOutcome::Requested
        );
    }
    assert_snapshot!(dump(&db).await, @"cat running lease=1 charged=0/3 interruptions=0/3 cancel-requested worker=w");
    assert_eq!(
        tests::settling::complete(&db, &[held.completion("done")])
            .await
            .unwrap(),
        [cat]
    );
    assert_snapshot!(dump(&db).await, @r"
    cat canceled lease=1 charged=0/3 interruptions=0/3 worker=w
      1 w canceled free -
    ");
}

#[tokio::test]
async fn a_running_job_with_a_requested_cancel_ends_canceled_after_a_failure() {
    let db = given::database().await;
    let fault = || Problem::new(ProblemCode::ModelError, "made up");
    let [cat, dog, owl] = given::queued(&db, ["cat", "dog", "owl"]).await;
    let worker = given::worker(&db, "w").await;
    let claims = tests::claiming::claim(&db, worker, &[], 3).await.unwrap();
    for job in [cat, dog, owl] {
        queue::cancel(&db, job, OWNER).await.unwrap();
    }
    tests::settling::fail(&db, &[(claims[0].lease, fault())])
        .await
        .unwrap();
    tests::settling::retry(&db, &[(claims[1].lease, fault())])
        .await
        .unwrap();
    clock::attempt_ran_too_long(&db, owl).await;
    queue::time_out(&*db).await.unwrap();
    let states: Vec<String> = sqlx::query_scalar("select status from ops.jobs order by job_id")
        .fetch_all(&*db)
        .await
        .unwrap();
    assert_eq!(states, ["canceled"; 3]);
}

#[tokio::test]
async fn cancel_of_an_ended_job_reports_its_state_and_changes_nothing() {
    let db = given::database().await;
    let [cat, dog] = given::queued(&db, ["cat", "dog"]).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    queue::cancel(&db, dog, OWNER).await.unwrap();
    let before = dump(&db).await;
    assert_eq!(
        queue::cancel(&db, cat, OWNER).await.unwrap(),
        CancelOutcome::Terminal(JobState::Succeeded)
    );
    assert_eq!(
        queue::cancel(&db, dog, OWNER).await.unwrap(),
        CancelOutcome::Terminal(JobState::Canceled)
    );
    assert_eq!(dump(&db).await, before);
}

#[tokio::test]
async fn cancel_of_another_owners_job_finds_nothing() {
    let db = given::database().await;
    let [cat, dog] = given::queued(&db, ["cat", "dog"]).await;
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(held.job_id(), cat);
    let before = dump(&db).await;
    for job in [cat, dog] {
        assert_eq!(
            queue::cancel(&db, job, Some("bob")).await.unwrap(),
            CancelOutcome::NotFound
        );
    }
    assert_eq!(dump(&db).await, before);
    assert_eq!(
        queue::cancel(&db, dog, None).await.unwrap(),
        CancelOutcome::AtOnce,
        "an operator may cancel a job of any owner"
    );
}

/// The cancel sees a queued job, waits for the claim that holds its row, and finds a running job.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_waits_for_a_claim_marks_the_running_job() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let worker = given::worker(&db, "w").await;
    let mut claim = db.begin().await.unwrap();
    sqlx::query(
        "update live_jobs set state = 'running', worker_id = $2, claimed_at = now(), lease_no = 1, attempts_started = 1,
                attempt_deadline_at = now() + interval '1 minute', version = version + 1
         where job_id = $1",
    )
    .bind(cat.uuid())
    .bind(worker.0)
    .execute(&mut *claim)
    .await
    .unwrap();
    let pool = db.another_pool();
    let cancel = tokio::spawn(async move { queue::cancel(&pool, cat, OWNER).await });
    wait_for_a_blocked_statement(&db).await;
    claim.commit().await.unwrap();
    let canceled = cancel.await.unwrap().unwrap();
    assert_eq!(canceled, CancelOutcome::Requested, "the job is running now");
}

/// The cancel sees a running job, waits for the completion that holds its row, and finds no live job.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_waits_for_a_completion_reports_the_final_state() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    // Holds the row, so that the completion and then the cancel wait for the lock.
    let mut first = db.begin().await.unwrap();
    sqlx::query("select from live_jobs where job_id = $1 for no key update")
        .bind(cat.uuid())
        .execute(&mut *first)
        .await
        .unwrap();
    let pool = db.another_pool();
    let done = held.completion("done");
    let complete = tokio::spawn(async move { tests::settling::complete(&pool, &[done]).await });
    wait_for_a_blocked_statement(&db).await;
    let pool = db.another_pool();
    let cancel = tokio::spawn(async move { queue::cancel(&pool, cat, OWNER).await });
    tests::eventually(
        std::time::Duration::from_secs(10),
        "both wait for the row",
        || async {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
            )
            .fetch_one(&*db)
            .await
            .unwrap();
            (waiting == 2).then_some(())
        },
    )
    .await;
    first.rollback().await.unwrap();
    assert_eq!(complete.await.unwrap().unwrap(), [cat]);
    let canceled = cancel.await.unwrap().unwrap();
    assert_eq!(canceled, CancelOutcome::Terminal(JobState::Succeeded));
}

/// The outcome sees a running job, waits for the cancel that holds its row, and then sees the cancel.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_waits_for_a_cancel_ends_the_job_as_canceled() {
    let db = given::database().await;
    for verb in ["complete", "fail", "retry", "release"] {
        let [cat] = given::queued(&db, [verb]).await;
        let held = given::claimed_by(&db, "w").await;
        let mut cancel = db.begin().await.unwrap();
        let ask = sqlx::query_scalar("select cancel_job($1, null)").bind(cat.uuid());
        let asked: String = ask.fetch_one(&mut *cancel).await.unwrap();
        assert_eq!(asked, "requested");
        let pool = db.another_pool();
        let outcome = tokio::spawn(async move {
            let fault = (held.lease(), Problem::new(ProblemCode::Internal, "made up"));
            match verb {
                "complete" => tests::settling::complete(&pool, &[held.completion("cat")]).await,
                "fail" => tests::settling::fail(&pool, &[fault]).await,
                "retry" => tests::settling::retry(&pool, &[fault]).await,
                _ => tests::settling::release(&pool, &[held.lease()]).await,
            }
        });
        wait_for_a_blocked_statement(&db).await;
        cancel.commit().await.unwrap();
        assert_eq!(outcome.await.unwrap().unwrap(), [cat], "{verb}");
        let job = queue::find(&db, cat, given::OWNER).await.unwrap().unwrap();
        assert_eq!(job.state, JobState::Canceled, "{verb}");
        let attempts = queue::attempts(&db, cat).await.unwrap();
        assert_eq!(attempts.len(), 1, "{verb}");
    }
}
