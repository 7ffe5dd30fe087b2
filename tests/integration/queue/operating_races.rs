//! Two concurrent actions on one job: the second action sees the result of the first.

use std::time::Duration;

use jobs::{
    JobId, Problem, ProblemCode, Sha256Digest, images,
    queue::{self, PurgeOutcome, RetryOutcome, SetPriorityOutcome},
};
use sqlx::PgPool;
use tests::{Database, database::wait_for_a_blocked_statement, given};

const OWNER: Option<&str> = Some(given::OWNER);

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

async fn failed_job(db: &PgPool, name: &str) -> JobId {
    let [job] = given::queued(db, [name]).await;
    let held = given::claimed_by(db, "w").await;
    assert_eq!(
        tests::settling::fail(db, &[(held.lease(), fault())])
            .await
            .unwrap(),
        [job]
    );
    job
}

async fn query_number(db: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

/// Waits until `count` statements wait for a lock.
async fn wait_for_lock_waiters(db: &PgPool, count: i64) {
    tests::eventually(Duration::from_secs(10), "the statements wait for a lock", || async {
        let waiting = query_number(
            db,
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        );
        (waiting.await == count).then_some(())
    })
    .await;
}

/// Runs `first` and then `second` while the row of a failed job is locked, then unlocks the row.
async fn race<A, B>(
    db: &Database,
    job: JobId,
    first: impl FnOnce(PgPool) -> A,
    second: impl FnOnce(PgPool) -> B,
) -> (A::Output, B::Output)
where
    A: Future<Output: Send> + Send + 'static,
    B: Future<Output: Send> + Send + 'static,
{
    let mut lock_holder = db.begin().await.unwrap();
    sqlx::query("select from finished_jobs where job_id = $1 for update")
        .bind(job.uuid())
        .execute(&mut *lock_holder)
        .await
        .unwrap();
    let first = tokio::spawn(first(db.another_pool().pool().clone()));
    wait_for_lock_waiters(db, 1).await;
    let second = tokio::spawn(second(db.another_pool().pool().clone()));
    wait_for_lock_waiters(db, 2).await;
    lock_holder.rollback().await.unwrap();
    (first.await.unwrap(), second.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_concurrent_retries_queue_the_job_once() {
    let db = given::database().await;
    let cat = failed_job(&db, "cat").await;
    let retry = |db: PgPool| async move { queue::retry(&db, cat, OWNER).await.unwrap() };
    let (first, second) = race(&db, cat, retry, retry).await;
    assert_eq!(
        (first, second),
        (RetryOutcome::Queued, RetryOutcome::NotTerminal)
    );
    assert_eq!(query_number(&db, "select count(*) from ops.jobs").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_waits_for_a_retry_purges_nothing() {
    let db = given::database().await;
    let cat = failed_job(&db, "cat").await;
    let retry = |db: PgPool| async move { queue::retry(&db, cat, OWNER).await.unwrap() };
    let purge = |db: PgPool| async move { queue::purge(&db, cat, OWNER).await.unwrap() };
    assert_eq!(
        race(&db, cat, retry, purge).await,
        (RetryOutcome::Queued, PurgeOutcome::NotTerminal)
    );
    assert_eq!(
        query_number(&db, "select sum(jobs)::bigint from images").await,
        1,
        "the image stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_waits_for_a_purge_reports_the_purged_input() {
    let db = given::database().await;
    let cat = failed_job(&db, "cat").await;
    let retry = |db: PgPool| async move { queue::retry(&db, cat, OWNER).await.unwrap() };
    let purge = |db: PgPool| async move { queue::purge(&db, cat, OWNER).await.unwrap() };
    assert_eq!(
        race(&db, cat, purge, retry).await,
        (PurgeOutcome::Done, RetryOutcome::InputPurged)
    );
    assert_eq!(query_number(&db, "select count(*) from live_jobs").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_priority_that_waits_for_a_claim_reports_the_running_job() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let worker = given::worker(&db, "w").await;
    let mut claim = db.begin().await.unwrap();
    sqlx::query(
        "update live_jobs set state = 'running', worker_id = $1, claimed_at = now(), lease_no = 1, attempts_started = 1,
                attempt_deadline_at = now() + interval '1 minute'",
    )
    .bind(worker.0)
    .execute(&mut *claim)
    .await
    .unwrap();
    let pool = db.another_pool();
    let moved = tokio::spawn(async move { queue::set_priority(&pool, cat, 7).await.unwrap() });
    wait_for_a_blocked_statement(&db).await;
    claim.commit().await.unwrap();
    assert_eq!(moved.await.unwrap(), SetPriorityOutcome::Running);
}

/// The purge of the image starts before the retry commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_keeps_an_image_that_an_uncommitted_retry_needs() {
    let db = given::database().await;
    let (_, store) = given::bucket().await;
    let cat = failed_job(&db, "cat").await;
    let mut retry = db.begin().await.unwrap();
    let retried = sqlx::query_scalar("select retry_job($1, null)").bind(cat.uuid());
    let retried: String = retried.fetch_one(&mut *retry).await.unwrap();
    assert_eq!(retried, "queued");
    let pool = db.another_pool();
    let purge = tokio::spawn(async move {
        images::purge(&pool, &store, given::OWNER, Sha256Digest::of(b"cat"), None).await
    });
    wait_for_a_blocked_statement(&db).await;
    retry.commit().await.unwrap();
    assert_eq!(purge.await.unwrap().unwrap(), images::PurgeOutcome::Needed);
}
