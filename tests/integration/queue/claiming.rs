//! Claims: one worker per job, higher priority first, no jobs of paused or unrequested models.

use std::collections::HashSet;

use futures_util::future::join_all;
use jobs::{JobId, queue};
use sqlx::PgPool;
use tests::{clock, database::wait_until_done_or_blocked, given};

async fn claim_ids(db: &PgPool, models: &[&str], limit: u16) -> Vec<JobId> {
    let worker = given::worker(db, "w").await;
    let models: Vec<String> = models.iter().map(ToString::to_string).collect();
    let claims = tests::claiming::claim(db, worker, &models, limit)
        .await
        .unwrap();
    claims.iter().map(|claim| claim.lease.job_id).collect()
}

#[tokio::test]
async fn claims_are_ordered_by_priority_then_by_age() {
    let db = given::database().await;
    let mut jobs = Vec::new();
    for (name, priority) in [("a", 0), ("b", -5), ("c", 7), ("d", 0), ("e", 7)] {
        jobs.push(given::queued_with(&db, name, |job| job.priority = priority).await);
    }
    let [zero, low, high, zero_too, high_too] = jobs[..] else {
        unreachable!()
    };
    assert_eq!(claim_ids(&db, &[], 2).await, [high, high_too]);
    assert_eq!(claim_ids(&db, &[], 10).await, [zero, zero_too, low]);
}

#[tokio::test]
async fn a_worker_claims_only_jobs_of_its_models() {
    let db = given::database().await;
    let other = given::model_version(&db, "other").await;
    given::queued(&db, ["cat"]).await;
    let dog = given::job(&other, "dog");
    queue::enqueue(&db, std::slice::from_ref(&dog))
        .await
        .unwrap();
    assert_eq!(claim_ids(&db, &["other"], 5).await, [dog.id]);
    assert_eq!(
        claim_ids(&db, &[], 5).await.len(),
        1,
        "an empty list means every model"
    );
}

#[tokio::test]
async fn a_pause_stops_claims_of_one_model_only() {
    let db = given::database().await;
    let other = given::model_version(&db, "other").await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let dog = given::job(&other, "dog");
    queue::enqueue(&db, std::slice::from_ref(&dog))
        .await
        .unwrap();
    sqlx::query("update models set paused_at = now(), pause_reason = 'test' where name = 'lite'")
        .execute(&*db)
        .await
        .unwrap();
    assert_eq!(claim_ids(&db, &[], 5).await, [dog.id]);
    sqlx::query("update models set paused_at = null")
        .execute(&*db)
        .await
        .unwrap();
    assert_eq!(claim_ids(&db, &[], 5).await, [cat]);
}

/// I6: a job has at most one live lease.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_claims_never_return_one_job_twice() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let jobs: Vec<_> = (0..120)
        .map(|n| given::job(&model, &n.to_string()))
        .collect();
    queue::enqueue(&db, &jobs).await.unwrap();
    let claimer = |name: String| {
        let db = &db;
        async move {
            let worker = given::worker(db, &name).await;
            let mut mine = Vec::new();
            loop {
                let claims = tests::claiming::claim(db, worker, &[], 3).await.unwrap();
                if claims.is_empty() {
                    return mine;
                }
                mine.extend(claims.iter().map(|claim| claim.lease.job_id));
            }
        }
    };
    let taken = join_all((0..8).map(|n| claimer(format!("w{n}"))))
        .await
        .concat();
    let distinct: HashSet<_> = taken.iter().collect();
    assert_eq!(distinct.len(), taken.len(), "a job was claimed twice");
    // A claimer stops early if other claims have locked every row. These jobs must still be queued.
    let rest = claim_ids(&db, &[], 200).await;
    assert_eq!(taken.len() + rest.len(), 120);
}

#[tokio::test]
async fn a_running_job_is_not_claimed_again() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    assert_eq!(claim_ids(&db, &[], 2).await, [cat]);
    assert_eq!(claim_ids(&db, &[], 2).await, []);
}

/// I6: two claims see one queued job at the same moment, and only one claim gets the job.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_an_uncommitted_claim_is_not_claimed_again() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let (slow, quick) = (
        given::worker(&db, "slow").await,
        given::worker(&db, "quick").await,
    );
    let uncommitted = db.in_open_transaction().await;
    let claimed = tests::claiming::claim(&uncommitted, slow, &[], 1)
        .await
        .unwrap();
    assert_eq!(claimed.len(), 1);
    let pool = db.another_pool();
    let other = tokio::spawn(async move { tests::claiming::claim(&pool, quick, &[], 1).await });
    wait_until_done_or_blocked(&db, &other).await;
    sqlx::raw_sql("commit").execute(&uncommitted).await.unwrap();
    let claimed = other.await.unwrap().unwrap();
    assert!(claimed.is_empty(), "claimed twice: {claimed:?}");
}

#[tokio::test]
async fn a_claim_skips_a_locked_job() {
    let db = given::database().await;
    let [cat, dog] = given::queued(&db, ["cat", "dog"]).await;
    let mut lock_holder = db.begin().await.unwrap();
    sqlx::query("select from live_jobs where job_id = $1 for no key update")
        .bind(cat.uuid())
        .execute(&mut *lock_holder)
        .await
        .unwrap();
    assert_eq!(claim_ids(&db, &[], 1).await, [dog]);
    lock_holder.rollback().await.unwrap();
    assert_eq!(claim_ids(&db, &[], 1).await, [cat]);
}

#[tokio::test]
async fn a_claim_over_all_models_respects_its_limit() {
    let db = given::database().await;
    for name in ["lite", "other", "third"] {
        let model = given::model_version(&db, name).await;
        let jobs: Vec<_> = (0..5).map(|n| given::job(&model, &n.to_string())).collect();
        queue::enqueue(&db, &jobs).await.unwrap();
    }
    assert_eq!(claim_ids(&db, &[], 4).await.len(), 4);
}

#[tokio::test]
async fn a_claim_contains_all_inputs_of_the_attempt() {
    let db = given::database().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let job = given::queued_with(&db, "cat", |job| job.trace_parent = Some(trace.into())).await;
    let lost = given::claimed_by(&db, "lost").await;
    clock::lease_ran_out(&db, lost.worker).await;
    queue::rescue(&*db).await.unwrap();
    let claim = given::claimed_by(&db, "w").await.claim;
    assert_eq!(claim.lease.job_id, job);
    assert_eq!(claim.lease.lease_no.0, 3);
    assert_eq!(
        (claim.attempt, claim.interruptions),
        (2, 1),
        "the worker sees the interruption and runs the job alone"
    );
    assert_eq!(claim.owner, given::OWNER);
    assert_eq!(claim.params["top_k"], 5);
    assert_eq!(claim.image_sha256, jobs::Sha256Digest::of(b"cat"));
    assert_eq!(claim.trace_parent.as_deref(), Some(trace));
    assert!(claim.queue_ms >= 0.0);
}
