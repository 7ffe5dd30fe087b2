//! How groups end: with their last job, by a cancel, and again after a retry.

use jobs::{
    Problem, ProblemCode,
    groups::{self, Chunk, GroupStatus, Refusal, Upload},
    queue,
};
use tests::given;

use super::{appended, begun, group, one_fails, one_succeeds, sealed, taken};

#[tokio::test]
async fn a_group_ends_with_the_last_of_its_jobs_and_only_once() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 2).await;
    one_succeeds(&db).await;
    assert!(groups::finish_due(&*db).await.unwrap().is_empty());
    let running = group(&db, id).await;
    assert_eq!(running.status(), GroupStatus::Running);
    assert_eq!((running.counts.queued, running.counts.succeeded), (1, 1));
    one_succeeds(&db).await;
    assert_eq!(groups::finish_due(&*db).await.unwrap(), [id]);
    assert!(groups::finish_due(&*db).await.unwrap().is_empty());
    let ended = group(&db, id).await;
    assert_eq!(ended.status(), GroupStatus::Succeeded);
    assert!(ended.finished_at.is_some());
}

/// Whoever finds the end: it is told once, in the statement that makes it so.
#[tokio::test]
async fn the_end_of_a_group_is_one_event() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    assert!(groups::finish_due(&*db).await.unwrap().is_empty());
    one_succeeds(&db).await;
    groups::finish_due(&*db).await.unwrap();
    groups::finish_due(&*db).await.unwrap();
    let told = sqlx::query_scalar::<_, uuid::Uuid>(
        "select group_id from events where type = 'batch.completed' and owner = $1",
    );
    let told = told.bind(given::OWNER).fetch_all(&*db).await.unwrap();
    assert_eq!(told, [id.uuid()]);
}

#[tokio::test]
async fn who_asks_sees_the_end_before_housekeeping_does() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    one_succeeds(&db).await;
    assert_eq!(group(&db, id).await.status(), GroupStatus::Succeeded);
    assert!(groups::finish_due(&*db).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_group_whose_upload_goes_on_does_not_end() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    appended(&db, writer, 1..=1).await;
    one_succeeds(&db).await;
    assert!(groups::finish_due(&*db).await.unwrap().is_empty());
    let open = group(&db, writer.group).await;
    assert_eq!(
        (open.status(), open.upload),
        (GroupStatus::Running, Upload::Open)
    );
}

#[tokio::test]
async fn a_group_of_refused_lines_alone_has_failed() {
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
    groups::append(&db, writer, &chunk).await.unwrap();
    groups::seal(&db, writer).await.unwrap();
    let ended = group(&db, writer.group).await;
    assert_eq!(ended.status(), GroupStatus::Failed);
    assert_eq!((ended.counts.total, ended.counts.refused), (1, 1));
}

#[tokio::test]
async fn a_retried_job_opens_its_group_again() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 2).await;
    one_succeeds(&db).await;
    let failed = one_fails(&db).await;
    assert_eq!(group(&db, id).await.status(), GroupStatus::PartlyFailed);
    queue::resubmit(&db, failed, None).await.unwrap();
    let again = group(&db, id).await;
    assert_eq!(again.status(), GroupStatus::Running);
    assert_eq!((again.counts.succeeded, again.counts.queued), (1, 1));
    one_succeeds(&db).await;
    assert_eq!(group(&db, id).await.status(), GroupStatus::Succeeded);
}

/// A retry whose commit comes late: the group is either not ended, or open again.
#[tokio::test]
async fn a_group_does_not_end_beside_a_retry_under_way() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    let failed = one_fails(&db).await;
    let slow = db.under_way().await;
    queue::resubmit(&slow, failed, None).await.unwrap();
    assert!(groups::finish_due(&*db).await.unwrap().is_empty());
    sqlx::raw_sql("commit").execute(&slow).await.unwrap();
    assert!(groups::finish_due(&*db).await.unwrap().is_empty());
    assert_eq!(group(&db, id).await.status(), GroupStatus::Running);
}

/// Whoever chose the group looked at it a moment before.
#[tokio::test]
async fn the_end_is_looked_for_anew_under_the_lock() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    let ended = async || -> bool {
        let ended = sqlx::query_scalar("select finish_group($1)").bind(id.uuid());
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
        groups::retry_failed(&db, id, "somebody-else")
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        groups::retry_failed(&db, id, given::OWNER).await.unwrap(),
        2
    );
    let again = group(&db, id).await.counts;
    assert_eq!((again.queued, again.succeeded, again.failed), (2, 1, 0));
}

#[tokio::test]
async fn a_cancel_ends_what_waits_and_asks_what_runs() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 3).await;
    one_succeeds(&db).await;
    let running = given::claimed_by(&db, "w").await;
    assert!(!groups::cancel(&db, id, "somebody-else").await.unwrap());
    assert!(groups::cancel(&db, id, given::OWNER).await.unwrap());
    assert_eq!(groups::cancel_some(&*db, None).await.unwrap(), 2);
    assert_eq!(groups::cancel_some(&*db, None).await.unwrap(), 0);
    let counts = group(&db, id).await.counts;
    assert_eq!(
        (counts.canceled, counts.running, counts.succeeded),
        (1, 1, 1)
    );
    queue::release(&db, &[running.lease()]).await.unwrap();
    assert_eq!(group(&db, id).await.status(), GroupStatus::Canceled);
    assert!(!groups::cancel(&db, id, given::OWNER).await.unwrap());
}
