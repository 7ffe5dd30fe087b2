//! Each line of a batch is queued once, by the first upload or by an upload that resumes the batch.

use jobs::{
    BatchId,
    batches::{self, AppendOutcome, BatchStatus, BatchUpload, BeginOutcome, ResumeOutcome},
    queue,
};
use serde_json::Map;
use sqlx::PgPool;
use tests::{Database, given};

use super::{append_jobs, begin_batch, chunk_of, complete_next_job, find_batch, member};

#[tokio::test]
async fn a_canceled_batch_takes_no_more_lines() {
    let db = given::database().await;
    let writer = begin_batch(&db, None).await;
    append_jobs(&db, writer, 1..=1).await;
    batches::cancel(&db, writer.batch, given::OWNER)
        .await
        .unwrap();
    let outcome = batches::append(&db, writer, &chunk_of(2)).await.unwrap();
    assert_eq!(outcome, AppendOutcome::Canceled);
}

async fn make_silent_for_an_hour(db: &PgPool, id: BatchId) {
    sqlx::query("update batches set heard_at = now() - interval '1 hour' where batch_id = $1")
        .bind(id.uuid())
        .execute(db)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_abandoned_upload_is_sealed_and_its_jobs_run() {
    let db = given::database().await;
    let writer = begin_batch(&db, None).await;
    append_jobs(&db, writer, 1..=2).await;
    assert!(
        batches::seal_abandoned(&*db, 60.0)
            .await
            .unwrap()
            .is_empty()
    );
    make_silent_for_an_hour(&db, writer.batch).await;
    assert_eq!(
        batches::seal_abandoned(&*db, 60.0).await.unwrap(),
        [writer.batch]
    );
    complete_next_job(&db).await;
    complete_next_job(&db).await;
    let ended = find_batch(&db, writer.batch).await;
    assert_eq!(ended.upload, BatchUpload::BrokenOff);
    assert_eq!(
        ended.status(),
        BatchStatus::PartlyFailed,
        "lines may be missing"
    );
    let late = batches::append(&db, writer, &chunk_of(3)).await.unwrap();
    assert_eq!(late, AppendOutcome::Lost);
}

#[tokio::test]
async fn one_key_begins_one_batch() {
    let db = given::database().await;
    let writer = begin_batch(&db, Some("k")).await;
    let again = batches::begin(&db, given::OWNER, &Map::new(), Some("k")).await;
    assert_eq!(again.unwrap(), BeginOutcome::KeyTaken);
    let earlier = queue::find_earlier_request(&db, given::OWNER, "k")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(earlier.batch_id, Some(writer.batch));
}

async fn resume(db: &Database, id: BatchId) -> ResumeOutcome {
    batches::resume(db, id, given::OWNER, 30.0).await.unwrap()
}

#[tokio::test]
async fn a_resumed_upload_fences_the_silent_upload() {
    let db = given::database().await;
    let first = begin_batch(&db, Some("k")).await;
    append_jobs(&db, first, 1..=2).await;
    // The job is committed, and the upload broke off before `append` recorded the line.
    let model = given::model_version(&db, given::MODEL).await;
    let unrecorded = [member(&model, first.batch, 3)];
    queue::enqueue(&db, &unrecorded).await.unwrap();
    assert_eq!(resume(&db, first.batch).await, ResumeOutcome::InFlight);
    make_silent_for_an_hour(&db, first.batch).await;
    let ResumeOutcome::From {
        writer,
        lines,
        sha256,
    } = resume(&db, first.batch).await
    else {
        panic!("the upload must resume");
    };
    assert_eq!((lines, sha256), (2, Some(chunk_of(2).sha256)));
    let beyond = batches::taken_beyond(&db, first.batch, lines)
        .await
        .unwrap();
    assert_eq!(beyond, [3].into());
    assert_eq!(
        batches::append(&db, first, &chunk_of(3)).await.unwrap(),
        AppendOutcome::Lost
    );
    assert_eq!(
        batches::append(&db, writer, &chunk_of(3)).await.unwrap(),
        AppendOutcome::Taken
    );
    assert!(!batches::seal(&db, first).await.unwrap());
    assert!(batches::seal(&db, writer).await.unwrap());
    let complete = ResumeOutcome::Complete {
        lines: 3,
        sha256: Some(chunk_of(3).sha256),
    };
    assert_eq!(resume(&db, first.batch).await, complete);
}

#[tokio::test]
async fn an_upload_can_resume_a_batch_that_was_sealed_as_broken_off() {
    let db = given::database().await;
    let first = begin_batch(&db, Some("k")).await;
    append_jobs(&db, first, 1..=1).await;
    make_silent_for_an_hour(&db, first.batch).await;
    batches::seal_abandoned(&*db, 60.0).await.unwrap();
    complete_next_job(&db).await;
    assert!(find_batch(&db, first.batch).await.has_ended());
    assert!(matches!(
        resume(&db, first.batch).await,
        ResumeOutcome::From { lines: 1, .. }
    ));
    let again = find_batch(&db, first.batch).await;
    assert_eq!(
        (again.status(), again.upload),
        (BatchStatus::Running, BatchUpload::Open)
    );
}
