//! Batches: each line is queued once, and a batch ends once.

mod ending;
mod uploading;

use jobs::{
    BatchId, BatchMember, JobId, Problem, ProblemCode, Sha256Digest,
    batches::{self, AppendOutcome, BatchFinder, BeginOutcome, Chunk, Writer},
    models::Resolved,
    queue::{self, NewJob},
};
use serde_json::Map;
use sqlx::PgPool;
use tests::given;

async fn begin_batch(db: &PgPool, key: Option<&str>) -> Writer {
    match batches::begin(db, given::OWNER, &Map::new(), key)
        .await
        .unwrap()
    {
        BeginOutcome::Yes(writer) => writer,
        BeginOutcome::KeyTaken => panic!("the key must be new"),
    }
}

fn member(model: &Resolved, batch: BatchId, position: i32) -> NewJob {
    let name = format!("line {position}");
    let mut job = given::job(model, &name);
    job.member = Some(BatchMember {
        batch,
        position,
        custom_id: Some(name),
    });
    job
}

fn chunk_of(lines: i32) -> Chunk {
    Chunk {
        lines,
        sha256: Sha256Digest::of(&lines.to_be_bytes()),
        refused: vec![],
    }
}

/// A sealed batch of `lines` jobs.
async fn sealed_batch(db: &PgPool, lines: i32) -> (BatchId, Vec<JobId>) {
    let writer = begin_batch(db, None).await;
    let jobs = append_jobs(db, writer, 1..=lines).await;
    assert!(batches::seal(db, writer).await.unwrap());
    (writer.batch, jobs)
}

async fn append_jobs(
    db: &PgPool,
    writer: Writer,
    lines: std::ops::RangeInclusive<i32>,
) -> Vec<JobId> {
    let model = given::model_version(db, given::MODEL).await;
    let last = *lines.end();
    let jobs: Vec<_> = lines
        .map(|line| member(&model, writer.batch, line))
        .collect();
    queue::enqueue(db, &jobs).await.unwrap();
    let outcome = batches::append(db, writer, &chunk_of(last)).await.unwrap();
    assert_eq!(outcome, AppendOutcome::Taken);
    jobs.iter().map(|job| job.id).collect()
}

async fn find_batch(db: &PgPool, id: BatchId) -> batches::Batch {
    let mut db = db.acquire().await.unwrap();
    let found = batches::find(&mut db, id, given::OWNER).await.unwrap();
    found.unwrap()
}

async fn complete_next_job(db: &PgPool) {
    let held = given::claimed_by(db, "w").await;
    let done = tests::settling::complete(db, &[held.completion("cat")])
        .await
        .unwrap();
    assert_eq!(done.len(), 1);
}

async fn fail_next_job(db: &PgPool) -> JobId {
    let held = given::claimed_by(db, "w").await;
    let torn = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    tests::settling::fail(db, &[(held.lease(), torn)])
        .await
        .unwrap();
    held.job_id()
}

#[tokio::test]
async fn batch_results_are_read_by_ranges_of_line_numbers() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 5).await;
    let numbers = async |owner: &str, after, last| {
        let lines = batches::results(db.pool(), id, owner, after, last)
            .await
            .unwrap();
        lines.iter().map(|line| line.position).collect::<Vec<_>>()
    };
    complete_next_job(&db).await;
    assert_eq!(numbers(given::OWNER, 0, 5).await, [1, 2, 3, 4, 5]);
    assert_eq!(numbers(given::OWNER, 2, 4).await, [3, 4]);
    assert!(numbers("another-owner", 0, 5).await.is_empty());
}

#[tokio::test]
async fn callers_that_ask_for_a_batch_at_once_share_a_reading() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 3).await;
    let finder = BatchFinder::new(db.another_pool(), db.reads());
    let lock = db.in_open_transaction().await;
    sqlx::raw_sql("lock table batches in access exclusive mode")
        .execute(&lock)
        .await
        .unwrap();
    let callers = (0..200).map(|_| finder.find(id, given::OWNER));
    let (found, ()) = tokio::join!(futures_util::future::join_all(callers), async {
        tests::database::wait_for_a_blocked_statement(&db).await;
        sqlx::raw_sql("commit").execute(&lock).await.unwrap();
    });
    for batch in found {
        assert_eq!(batch.unwrap().unwrap().counts.queued, 3);
    }
    // The first caller reads for itself, and the second one for all others.
    assert_eq!(finder.readings(), 2);
}

/// Only the counts may be old.
#[tokio::test]
async fn a_caller_that_does_not_wait_sees_its_own_changes() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 2).await;
    let finder = BatchFinder::new(db.another_pool(), db.reads());
    let found = async || finder.find(id, given::OWNER).await.unwrap().unwrap();
    assert_eq!(found().await.counts.succeeded, 0);
    complete_next_job(&db).await;
    assert_eq!(found().await.counts.succeeded, 1);
    assert!(batches::cancel(&db, id, given::OWNER).await.unwrap());
    assert!(found().await.cancel_requested);
    while batches::cancel_some(&**db, Some(id)).await.unwrap() > 0 {}
    assert!(
        found().await.has_ended(),
        "the caller ends a batch that is due"
    );
    let others = finder.find(id, "another-owner").await.unwrap();
    assert!(others.is_none());
}

#[tokio::test]
async fn a_batch_is_pruned_after_its_jobs_are_purged() {
    let db = given::database().await;
    let (id, jobs) = sealed_batch(&db, 1).await;
    complete_next_job(&db).await;
    batches::finish_due(&*db).await.unwrap();
    assert_eq!(
        batches::prune(&db, 0.0).await.unwrap(),
        0,
        "the job still has its data"
    );
    queue::purge(&db, jobs[0], None).await.unwrap();
    assert_eq!(batches::prune(&db, 3600.0).await.unwrap(), 0, "too early");
    assert_eq!(batches::prune(&db, 0.0).await.unwrap(), 1);
    let mut db = db.acquire().await.unwrap();
    let pruned = batches::find(&mut db, id, given::OWNER).await.unwrap();
    assert!(pruned.is_none());
}

#[tokio::test]
async fn jobs_are_listed_by_their_batch() {
    let db = given::database().await;
    given::queued(&db, ["alone"]).await;
    let (id, mut jobs) = sealed_batch(&db, 3).await;
    let filter = queue::JobFilter {
        batch: Some(id),
        ..queue::JobFilter::default()
    };
    let size = queue::PageSize::of(10);
    let listed = queue::list(db.pool(), given::OWNER, &filter, size).await;
    let listed = listed.unwrap().jobs;
    jobs.reverse();
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), jobs);
}
