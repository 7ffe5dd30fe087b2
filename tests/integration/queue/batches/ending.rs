//! A batch ends with its last job or by a cancel, and ends again after a retry.

use jobs::{
    Problem, ProblemCode,
    batches::{self, BatchStatus, BatchUpload, Chunk, Refusal},
    queue,
};
use tests::given;

use super::{
    append_jobs, begin_batch, chunk_of, complete_next_job, fail_next_job, find_batch, sealed_batch,
};

#[tokio::test]
async fn a_batch_ends_once_with_its_last_job() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 2).await;
    complete_next_job(&db).await;
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    let running = find_batch(&db, id).await;
    assert_eq!(running.status(), BatchStatus::Running);
    assert_eq!((running.counts.queued, running.counts.succeeded), (1, 1));
    complete_next_job(&db).await;
    assert_eq!(batches::finish_due(&*db).await.unwrap(), [id]);
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    let ended = find_batch(&db, id).await;
    assert_eq!(ended.status(), BatchStatus::Succeeded);
    assert!(ended.finished_at.is_some());
}

/// The statement that ends the batch publishes the event, so a second call publishes nothing.
#[tokio::test]
async fn the_end_of_a_batch_is_published_once() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 1).await;
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    complete_next_job(&db).await;
    batches::finish_due(&*db).await.unwrap();
    batches::finish_due(&*db).await.unwrap();
    let events = sqlx::query_scalar::<_, uuid::Uuid>(
        "select batch_id from events where type = 'batch.completed' and owner = $1",
    );
    let events = events.bind(given::OWNER).fetch_all(&*db).await.unwrap();
    assert_eq!(events, [id.uuid()]);
}

#[tokio::test]
async fn a_read_ends_a_batch_whose_jobs_have_all_ended() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 1).await;
    complete_next_job(&db).await;
    assert_eq!(find_batch(&db, id).await.status(), BatchStatus::Succeeded);
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_does_not_end_while_its_upload_is_open() {
    let db = given::database().await;
    let writer = begin_batch(&db, None).await;
    append_jobs(&db, writer, 1..=1).await;
    complete_next_job(&db).await;
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    let open = find_batch(&db, writer.batch).await;
    assert_eq!(
        (open.status(), open.upload),
        (BatchStatus::Running, BatchUpload::Open)
    );
}

#[tokio::test]
async fn a_batch_with_only_refused_lines_fails() {
    let db = given::database().await;
    let writer = begin_batch(&db, None).await;
    let refused = Refusal {
        position: 1,
        custom_id: Some("a".into()),
        problem: Problem::new(ProblemCode::UnknownModel, "made up"),
    };
    let chunk = Chunk {
        refused: vec![refused],
        ..chunk_of(1)
    };
    batches::append(&db, writer, &chunk).await.unwrap();
    batches::seal(&db, writer).await.unwrap();
    let ended = find_batch(&db, writer.batch).await;
    assert_eq!(ended.status(), BatchStatus::Failed);
    assert_eq!((ended.counts.total, ended.counts.refused), (1, 1));
}

#[tokio::test]
async fn a_retried_job_reopens_its_batch() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 2).await;
    complete_next_job(&db).await;
    let failed = fail_next_job(&db).await;
    assert_eq!(
        find_batch(&db, id).await.status(),
        BatchStatus::PartlyFailed
    );
    queue::retry(&db, failed, None).await.unwrap();
    let again = find_batch(&db, id).await;
    assert_eq!(again.status(), BatchStatus::Running);
    assert_eq!((again.counts.succeeded, again.counts.queued), (1, 1));
    complete_next_job(&db).await;
    assert_eq!(find_batch(&db, id).await.status(), BatchStatus::Succeeded);
}

/// The retry is committed only after the first check of the batch.
#[tokio::test]
async fn a_batch_does_not_end_beside_an_uncommitted_retry() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 1).await;
    let failed = fail_next_job(&db).await;
    let uncommitted = db.in_open_transaction().await;
    queue::retry(&uncommitted, failed, None).await.unwrap();
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    sqlx::raw_sql("commit").execute(&uncommitted).await.unwrap();
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    assert_eq!(find_batch(&db, id).await.status(), BatchStatus::Running);
}

/// The caller of `finish_batch` chose the batch before the lock was taken.
#[tokio::test]
async fn finish_batch_checks_the_jobs_again_under_its_lock() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 1).await;
    let finish = async || -> bool {
        let finished = sqlx::query_scalar("select finish_batch($1)").bind(id.uuid());
        finished.fetch_one(&*db).await.unwrap()
    };
    assert!(!finish().await, "a job is still live");
    complete_next_job(&db).await;
    assert!(finish().await);
    assert!(!finish().await, "only once");
}

#[tokio::test]
async fn retry_failed_retries_only_the_failed_jobs() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 3).await;
    fail_next_job(&db).await;
    complete_next_job(&db).await;
    fail_next_job(&db).await;
    assert_eq!(
        batches::retry_failed(&db, id, "another-owner", false)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        batches::retry_failed(&db, id, given::OWNER, false)
            .await
            .unwrap(),
        2
    );
    let again = find_batch(&db, id).await.counts;
    assert_eq!((again.queued, again.succeeded, again.failed), (2, 1, 0));
}

#[tokio::test]
async fn a_batch_cancel_ends_queued_jobs_and_marks_running_jobs() {
    let db = given::database().await;
    let (id, _) = sealed_batch(&db, 3).await;
    complete_next_job(&db).await;
    let running = given::claimed_by(&db, "w").await;
    assert!(!batches::cancel(&db, id, "another-owner").await.unwrap());
    assert!(batches::cancel(&db, id, given::OWNER).await.unwrap());
    assert_eq!(batches::cancel_some(&*db, None).await.unwrap(), 2);
    assert_eq!(batches::cancel_some(&*db, None).await.unwrap(), 0);
    let counts = find_batch(&db, id).await.counts;
    assert_eq!(
        (counts.canceled, counts.running, counts.succeeded),
        (1, 1, 1)
    );
    tests::settling::release(&db, &[running.lease()])
        .await
        .unwrap();
    assert_eq!(find_batch(&db, id).await.status(), BatchStatus::Canceled);
    assert!(!batches::cancel(&db, id, given::OWNER).await.unwrap());
}
