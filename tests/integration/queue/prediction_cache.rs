//! The prediction cache: an earlier job may answer a submit.

use jobs::{
    BatchId, BatchMember, InputWarning, JobId,
    db::Db,
    models::Resolved,
    queue::{self, MatchingJob, NewJob},
};
use sqlx::PgPool;
use tests::given;

/// The job that would answer a submit of `job`, if any.
async fn answer(db: &Db, job: &NewJob) -> Option<MatchingJob> {
    let stored = given::stored(db, &job.owner, job.image.sha256).await;
    let recent = stored.map(|stored| stored.recent_jobs).unwrap_or_default();
    queue::find_matching_job(&db.clone().into(), job, &recent)
        .await
        .unwrap()
}

async fn enqueue_job(db: &PgPool, job: &NewJob) -> JobId {
    queue::enqueue(db, std::slice::from_ref(job)).await.unwrap();
    job.id
}

/// A new job for one image, with one `change`.
fn job_with(model: &Resolved, change: impl FnOnce(&mut NewJob)) -> NewJob {
    let mut job = given::job(model, "cat");
    change(&mut job);
    job
}

#[tokio::test]
async fn a_submit_joins_a_live_job_and_hits_a_succeeded_job() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let again = job_with(&model, |_| ());
    assert_eq!(answer(&db, &again).await, None);
    let first = enqueue_job(&db, &job_with(&model, |_| ())).await;
    assert_eq!(answer(&db, &again).await, Some(MatchingJob::Joined(first)));
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(answer(&db, &again).await, Some(MatchingJob::Joined(first)));
    tests::settling::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    assert_eq!(answer(&db, &again).await, Some(MatchingJob::Hit(first)));
}

#[tokio::test]
async fn a_hit_has_the_warnings_of_its_image() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    enqueue_job(&db, &job_with(&model, |_| ())).await;
    let held = given::claimed_by(&db, "w").await;
    let prediction = queue::Prediction {
        input_warnings: vec![InputWarning::MissingEnd],
        ..given::prediction(serde_json::json!({}))
    };
    tests::settling::complete(&db, &[given::succeeded(held.lease(), prediction)])
        .await
        .unwrap();
    let hit = answer(&db, &job_with(&model, |_| ())).await.unwrap();
    let job = queue::find(&db, hit.job(), given::OWNER).await.unwrap();
    assert_eq!(job.unwrap().image.warnings, [InputWarning::MissingEnd]);
}

/// Worse terms: a deadline, a later start, a batch, a lower priority, fewer attempts, a requested cancel.
#[tokio::test]
async fn a_submit_does_not_join_a_job_with_worse_terms() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let again = job_with(&model, |_| ());
    let soon = Some(chrono::Utc::now() + chrono::TimeDelta::hours(1));
    let member = || BatchMember {
        batch: BatchId::now(),
        position: 1,
        custom_id: None,
    };
    for other in [
        job_with(&model, |job| job.deadline = soon),
        job_with(&model, |job| job.run_at = soon),
        job_with(&model, |job| job.member = Some(member())),
        job_with(&model, |job| job.priority = -1),
        job_with(&model, |job| job.attempts_max = 1),
    ] {
        enqueue_job(&db, &other).await;
        assert_eq!(answer(&db, &again).await, None, "{other:?}");
        queue::cancel(&db, other.id, None).await.unwrap();
    }
    let canceled = enqueue_job(&db, &again).await;
    given::claimed_by(&db, "w").await;
    queue::cancel(&db, canceled, None).await.unwrap();
    assert_eq!(answer(&db, &job_with(&model, |_| ())).await, None);
}

#[tokio::test]
async fn only_the_success_of_an_equal_request_is_a_hit() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let other_model = given::model_version(&db, "other").await;
    let first = enqueue_job(&db, &job_with(&model, |_| ())).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    for different in [
        job_with(&other_model, |_| ()),
        job_with(&model, |job| {
            job.params.insert("top_k".into(), 1.into());
        }),
        job_with(&model, |job| job.metadata.clear()),
        job_with(&model, |job| job.retain_seconds = 60.0),
        job_with(&model, |job| {
            job.webhook_url = Some("https://example.org".into());
        }),
    ] {
        assert_eq!(answer(&db, &different).await, None, "{different:?}");
    }
    let again = job_with(&model, |_| ());
    assert_eq!(answer(&db, &again).await, Some(MatchingJob::Hit(first)));
    queue::purge(&db, first, None).await.unwrap();
    // The purge removed params and metadata. A request without params and metadata must not match the tombstone.
    let empty = job_with(&model, |job| {
        job.params.clear();
        job.metadata.clear();
    });
    assert_eq!(answer(&db, &empty).await, None);
    assert_eq!(answer(&db, &again).await, None);
}
