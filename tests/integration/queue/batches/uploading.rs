//! Lines come once: of one upload, or of one that goes on behind it.

use jobs::{
    BatchId,
    batches::{self, AppendOutcome, BatchStatus, BeginOutcome, ResumeOutcome, Upload},
    queue,
};
use serde_json::Map;
use sqlx::PgPool;
use tests::{Database, given};

use super::{appended, batch, begun, member, one_succeeds, taken};

#[tokio::test]
async fn a_canceled_batch_takes_no_more_lines() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    appended(&db, writer, 1..=1).await;
    batches::cancel(&db, writer.batch, given::OWNER)
        .await
        .unwrap();
    let noted = batches::append(&db, writer, &taken(2)).await.unwrap();
    assert_eq!(noted, AppendOutcome::Canceled);
}

async fn silent_for_an_hour(db: &PgPool, id: BatchId) {
    sqlx::query("update batches set heard_at = now() - interval '1 hour' where batch_id = $1")
        .bind(id.uuid())
        .execute(db)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_abandoned_upload_is_sealed_and_its_jobs_run() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    appended(&db, writer, 1..=2).await;
    assert!(
        batches::seal_abandoned(&*db, 60.0)
            .await
            .unwrap()
            .is_empty()
    );
    silent_for_an_hour(&db, writer.batch).await;
    assert_eq!(
        batches::seal_abandoned(&*db, 60.0).await.unwrap(),
        [writer.batch]
    );
    one_succeeds(&db).await;
    one_succeeds(&db).await;
    let ended = batch(&db, writer.batch).await;
    assert_eq!(ended.upload, Upload::BrokenOff);
    assert_eq!(
        ended.status(),
        BatchStatus::PartlyFailed,
        "lines may be missing"
    );
    let late = batches::append(&db, writer, &taken(3)).await.unwrap();
    assert_eq!(late, AppendOutcome::Lost);
}

#[tokio::test]
async fn one_key_begins_one_batch() {
    let db = given::database().await;
    let writer = begun(&db, Some("k")).await;
    let again = batches::begin(&db, given::OWNER, &Map::new(), Some("k")).await;
    assert_eq!(again.unwrap(), BeginOutcome::KeyTaken);
    let earlier = queue::find_earlier_request(&db, given::OWNER, "k")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(earlier.batch_id, Some(writer.batch));
}

async fn resumed(db: &Database, id: BatchId) -> ResumeOutcome {
    batches::resume(db, id, given::OWNER, 30.0).await.unwrap()
}

#[tokio::test]
async fn a_resumed_upload_fences_the_silent_upload() {
    let db = given::database().await;
    let first = begun(&db, Some("k")).await;
    appended(&db, first, 1..=2).await;
    // Committed, and its uploader died before it could say so.
    let model = given::model_version(&db, given::MODEL).await;
    let unsaid = [member(&model, first.batch, 3)];
    queue::enqueue(&db, &unsaid).await.unwrap();
    assert_eq!(resumed(&db, first.batch).await, ResumeOutcome::InFlight);
    silent_for_an_hour(&db, first.batch).await;
    let ResumeOutcome::From {
        writer,
        lines,
        sha256,
    } = resumed(&db, first.batch).await
    else {
        panic!("it goes on");
    };
    assert_eq!((lines, sha256), (2, Some(taken(2).sha256)));
    let beyond = batches::taken_beyond(&db, first.batch, lines)
        .await
        .unwrap();
    assert_eq!(beyond, [3].into());
    assert_eq!(
        batches::append(&db, first, &taken(3)).await.unwrap(),
        AppendOutcome::Lost
    );
    assert_eq!(
        batches::append(&db, writer, &taken(3)).await.unwrap(),
        AppendOutcome::Taken
    );
    assert!(!batches::seal(&db, first).await.unwrap());
    assert!(batches::seal(&db, writer).await.unwrap());
    let complete = ResumeOutcome::Complete {
        lines: 3,
        sha256: Some(taken(3).sha256),
    };
    assert_eq!(resumed(&db, first.batch).await, complete);
}

#[tokio::test]
async fn an_upload_can_resume_a_batch_that_was_sealed_as_broken_off() {
    let db = given::database().await;
    let first = begun(&db, Some("k")).await;
    appended(&db, first, 1..=1).await;
    silent_for_an_hour(&db, first.batch).await;
    batches::seal_abandoned(&*db, 60.0).await.unwrap();
    one_succeeds(&db).await;
    assert!(batch(&db, first.batch).await.has_ended());
    assert!(matches!(
        resumed(&db, first.batch).await,
        ResumeOutcome::From { lines: 1, .. }
    ));
    let again = batch(&db, first.batch).await;
    assert_eq!(
        (again.status(), again.upload),
        (BatchStatus::Running, Upload::Open)
    );
}
