//! How batches end: with their last job, by a cancel, and again after a retry.

use jobs::{
    Problem, ProblemCode,
    batches::{self, BatchStatus, Chunk, Refusal, Upload},
    queue,
};
use tests::given;

use super::{appended, batch, begun, one_fails, one_succeeds, sealed, taken};

#[tokio::test]
async fn a_batch_ends_with_the_last_of_its_jobs_and_only_once() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 2).await;
    one_succeeds(&db).await;
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    let running = batch(&db, id).await;
    assert_eq!(running.status(), BatchStatus::Running);
    assert_eq!((running.counts.queued, running.counts.succeeded), (1, 1));
    one_succeeds(&db).await;
    assert_eq!(batches::finish_due(&*db).await.unwrap(), [id]);
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    let ended = batch(&db, id).await;
    assert_eq!(ended.status(), BatchStatus::Succeeded);
    assert!(ended.finished_at.is_some());
}

/// Whoever finds the end: it is told once, in the statement that makes it so.
#[tokio::test]
async fn the_end_of_a_batch_is_one_event() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    one_succeeds(&db).await;
    batches::finish_due(&*db).await.unwrap();
    batches::finish_due(&*db).await.unwrap();
    let told = sqlx::query_scalar::<_, uuid::Uuid>(
        "select batch_id from events where type = 'batch.completed' and owner = $1",
    );
    let told = told.bind(given::OWNER).fetch_all(&*db).await.unwrap();
    assert_eq!(told, [id.uuid()]);
}

#[tokio::test]
async fn who_asks_sees_the_end_before_housekeeping_does() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    one_succeeds(&db).await;
    assert_eq!(batch(&db, id).await.status(), BatchStatus::Succeeded);
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_whose_upload_goes_on_does_not_end() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    appended(&db, writer, 1..=1).await;
    one_succeeds(&db).await;
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    let open = batch(&db, writer.batch).await;
    assert_eq!(
        (open.status(), open.upload),
        (BatchStatus::Running, Upload::Open)
    );
}

#[tokio::test]
async fn a_batch_of_refused_lines_alone_has_failed() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    let refused = Refusal {
        position: 1,
        custom_id: Some("a".into()),
        problem: Problem::new(ProblemCode::UnknownModel, "made up"),
    };
    let chunk = Chunk {
        refused: vec![refused],
        ..taken(1)
    };
    batches::append(&db, writer, &chunk).await.unwrap();
    batches::seal(&db, writer).await.unwrap();
    let ended = batch(&db, writer.batch).await;
    assert_eq!(ended.status(), BatchStatus::Failed);
    assert_eq!((ended.counts.total, ended.counts.refused), (1, 1));
}

#[tokio::test]
async fn a_retried_job_opens_its_batch_again() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 2).await;
    one_succeeds(&db).await;
    let failed = one_fails(&db).await;
    assert_eq!(batch(&db, id).await.status(), BatchStatus::PartlyFailed);
    queue::retry(&db, failed, None).await.unwrap();
    let again = batch(&db, id).await;
    assert_eq!(again.status(), BatchStatus::Running);
    assert_eq!((again.counts.succeeded, again.counts.queued), (1, 1));
    one_succeeds(&db).await;
    assert_eq!(batch(&db, id).await.status(), BatchStatus::Succeeded);
}

/// A retry whose commit comes late: the batch is either not ended, or open again.
#[tokio::test]
async fn a_batch_does_not_end_beside_a_retry_under_way() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    let failed = one_fails(&db).await;
    let slow = db.in_open_transaction().await;
    queue::retry(&slow, failed, None).await.unwrap();
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    sqlx::raw_sql("commit").execute(&slow).await.unwrap();
    assert!(batches::finish_due(&*db).await.unwrap().is_empty());
    assert_eq!(batch(&db, id).await.status(), BatchStatus::Running);
}

/// Whoever chose the batch looked at it a moment before.
#[tokio::test]
async fn the_end_is_looked_for_anew_under_the_lock() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    let ended = async || -> bool {
        let ended = sqlx::query_scalar("select finish_batch($1)").bind(id.uuid());
        ended.fetch_one(&*db).await.unwrap()
    };
    assert!(!ended().await, "a job lives");
    one_succeeds(&db).await;
    assert!(ended().await);
    assert!(!ended().await, "only once");
}

#[tokio::test]
async fn retry_failed_takes_the_failed_ones_alone() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 3).await;
    one_fails(&db).await;
    one_succeeds(&db).await;
    one_fails(&db).await;
    assert_eq!(
        batches::retry_failed(&db, id, "somebody-else")
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        batches::retry_failed(&db, id, given::OWNER).await.unwrap(),
        2
    );
    let again = batch(&db, id).await.counts;
    assert_eq!((again.queued, again.succeeded, again.failed), (2, 1, 0));
}

#[tokio::test]
async fn a_cancel_ends_what_waits_and_asks_what_runs() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 3).await;
    one_succeeds(&db).await;
    let running = given::claimed_by(&db, "w").await;
    assert!(!batches::cancel(&db, id, "somebody-else").await.unwrap());
    assert!(batches::cancel(&db, id, given::OWNER).await.unwrap());
    assert_eq!(batches::cancel_some(&*db, None).await.unwrap(), 2);
    assert_eq!(batches::cancel_some(&*db, None).await.unwrap(), 0);
    let counts = batch(&db, id).await.counts;
    assert_eq!(
        (counts.canceled, counts.running, counts.succeeded),
        (1, 1, 1)
    );
    tests::settling::release(&db, &[running.lease()])
        .await
        .unwrap();
    assert_eq!(batch(&db, id).await.status(), BatchStatus::Canceled);
    assert!(!batches::cancel(&db, id, given::OWNER).await.unwrap());
}
