//! Two hands at one job: whoever comes second finds what the first one did.

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

/// A job that failed for good.
async fn failed(db: &PgPool, name: &str) -> JobId {
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

async fn number(db: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

/// As many statements as that wait for a lock.
async fn waiting(db: &PgPool, count: i64) {
    tests::eventually(Duration::from_secs(10), "they wait in line", || async {
        let waiting = number(
            db,
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        );
        (waiting.await == count).then_some(())
    })
    .await;
}

/// The two in line for the row of a failed job, the first one first.
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
    let mut rival = db.begin().await.unwrap();
    sqlx::query("select from finished_jobs where job_id = $1 for update")
        .bind(job.uuid())
        .execute(&mut *rival)
        .await
        .unwrap();
    let first = tokio::spawn(first(db.another_pool().pool().clone()));
    waiting(db, 1).await;
    let second = tokio::spawn(second(db.another_pool().pool().clone()));
    waiting(db, 2).await;
    rival.rollback().await.unwrap();
    (first.await.unwrap(), second.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_retries_at_once_one_queues_the_job() {
    let db = given::database().await;
    let cat = failed(&db, "cat").await;
    let retry = |db: PgPool| async move { queue::retry(&db, cat, OWNER).await.unwrap() };
    let (first, second) = race(&db, cat, retry, retry).await;
    assert_eq!(
        (first, second),
        (RetryOutcome::Queued, RetryOutcome::NotTerminal)
    );
    assert_eq!(number(&db, "select count(*) from ops.jobs").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_waits_for_a_retry_purges_nothing() {
    let db = given::database().await;
    let cat = failed(&db, "cat").await;
    let retry = |db: PgPool| async move { queue::retry(&db, cat, OWNER).await.unwrap() };
    let purge = |db: PgPool| async move { queue::purge(&db, cat, OWNER).await.unwrap() };
    assert_eq!(
        race(&db, cat, retry, purge).await,
        (RetryOutcome::Queued, PurgeOutcome::NotTerminal)
    );
    assert_eq!(
        number(&db, "select sum(jobs)::bigint from images").await,
        1,
        "the image stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_waits_for_a_purge_finds_the_input_gone() {
    let db = given::database().await;
    let cat = failed(&db, "cat").await;
    let retry = |db: PgPool| async move { queue::retry(&db, cat, OWNER).await.unwrap() };
    let purge = |db: PgPool| async move { queue::purge(&db, cat, OWNER).await.unwrap() };
    assert_eq!(
        race(&db, cat, purge, retry).await,
        (PurgeOutcome::Done, RetryOutcome::InputPurged)
    );
    assert_eq!(number(&db, "select count(*) from live_jobs").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_priority_that_races_with_a_claim_says_that_the_job_runs() {
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

/// The retry has not committed yet when somebody deletes the image that it needs.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_a_retry_is_about_to_need_stays() {
    let db = given::database().await;
    let (_, store) = given::bucket().await;
    let cat = failed(&db, "cat").await;
    let mut retry = db.begin().await.unwrap();
    let retried = sqlx::query_scalar("select retry_job($1, null)").bind(cat.uuid());
    let retried: String = retried.fetch_one(&mut *retry).await.unwrap();
    assert_eq!(retried, "queued");
    let pool = db.another_pool();
    let purge = tokio::spawn(async move {
        images::purge(&pool, &store, given::OWNER, Sha256Digest::of(b"cat")).await
    });
    wait_for_a_blocked_statement(&db).await;
    retry.commit().await.unwrap();
    assert_eq!(purge.await.unwrap().unwrap(), images::PurgeOutcome::Needed);
}
