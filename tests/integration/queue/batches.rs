//! Job batches: lines are taken once, a batch ends once, and nothing that moves a job knows of it.

mod ending;
mod uploading;

use jobs::{
    BatchId, BatchMember, JobId, Problem, ProblemCode, Sha256Digest,
    batches::{self, AppendOutcome, BeginOutcome, Chunk, Writer},
    models::Resolved,
    queue::{self, NewJob},
};
use serde_json::Map;
use sqlx::PgPool;
use tests::given;

async fn begun(db: &PgPool, key: Option<&str>) -> Writer {
    match batches::begin(db, given::OWNER, &Map::new(), key)
        .await
        .unwrap()
    {
        BeginOutcome::Yes(writer) => writer,
        BeginOutcome::KeyTaken => panic!("the key is taken"),
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

fn taken(lines: i32) -> Chunk {
    Chunk {
        lines,
        sha256: Sha256Digest::of(&lines.to_be_bytes()),
        refused: vec![],
    }
}

/// A sealed batch of so many jobs.
async fn sealed(db: &PgPool, lines: i32) -> (BatchId, Vec<JobId>) {
    let writer = begun(db, None).await;
    let jobs = appended(db, writer, 1..=lines).await;
    assert!(batches::seal(db, writer).await.unwrap());
    (writer.batch, jobs)
}

async fn appended(db: &PgPool, writer: Writer, lines: std::ops::RangeInclusive<i32>) -> Vec<JobId> {
    let model = given::model_version(db, given::MODEL).await;
    let last = *lines.end();
    let jobs: Vec<_> = lines
        .map(|line| member(&model, writer.batch, line))
        .collect();
    queue::enqueue(db, &jobs).await.unwrap();
    let noted = batches::append(db, writer, &taken(last)).await.unwrap();
    assert_eq!(noted, AppendOutcome::Taken);
    jobs.iter().map(|job| job.id).collect()
}

async fn batch(db: &PgPool, id: BatchId) -> batches::Batch {
    batches::find(db, id, given::OWNER).await.unwrap().unwrap()
}

/// The next job succeeds.
async fn one_succeeds(db: &PgPool) {
    let held = given::claimed_by(db, "w").await;
    let done = tests::settling::complete(db, &[held.completion("cat")])
        .await
        .unwrap();
    assert_eq!(done.len(), 1);
}

async fn one_fails(db: &PgPool) -> JobId {
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
    let (id, _) = sealed(&db, 5).await;
    let numbers = async |owner: &str, after, last| {
        let lines = batches::results(&db, id, owner, after, last).await.unwrap();
        lines.iter().map(|line| line.position).collect::<Vec<_>>()
    };
    one_succeeds(&db).await;
    assert_eq!(numbers(given::OWNER, 0, 5).await, [1, 2, 3, 4, 5]);
    assert_eq!(numbers(given::OWNER, 2, 4).await, [3, 4]);
    assert!(numbers("somebody-else", 0, 5).await.is_empty());
}

#[tokio::test]
async fn a_batch_is_pruned_after_its_jobs_are_purged() {
    let db = given::database().await;
    let (id, jobs) = sealed(&db, 1).await;
    one_succeeds(&db).await;
    batches::finish_due(&*db).await.unwrap();
    assert_eq!(
        batches::prune(&db, 0.0).await.unwrap(),
        0,
        "its job is kept"
    );
    queue::purge(&db, jobs[0], None).await.unwrap();
    assert_eq!(batches::prune(&db, 3600.0).await.unwrap(), 0, "too early");
    assert_eq!(batches::prune(&db, 0.0).await.unwrap(), 1);
    assert!(
        batches::find(&db, id, given::OWNER)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn jobs_are_listed_by_their_batch() {
    let db = given::database().await;
    given::queued(&db, ["alone"]).await;
    let (id, mut jobs) = sealed(&db, 3).await;
    let filter = queue::JobFilter {
        batch: Some(id),
        ..queue::JobFilter::default()
    };
    let listed = queue::list(&db, given::OWNER, &filter, 10).await.unwrap();
    jobs.reverse();
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), jobs);
}
