//! I14: the backlog of one owner does not delay the jobs of other owners.

use jobs::{
    JobId,
    models::Resolved,
    queue::{self, LowerLevels, NewJob},
};
use sqlx::PgPool;
use tests::given;

fn jobs_of(owner: &str, model: &Resolved, jobs: usize) -> Vec<NewJob> {
    let one = |n| NewJob {
        owner: owner.into(),
        ..given::job(model, &format!("{owner} {n}"))
    };
    (0..jobs).map(one).collect()
}

/// Claims up to `limit` jobs and returns the owner of each job.
async fn owners_of_next(db: &PgPool, limit: u16) -> Vec<String> {
    let worker = given::worker(db, "w").await;
    let claims = tests::claiming::claim(db, worker, &[], limit)
        .await
        .unwrap();
    claims.into_iter().map(|claim| claim.owner).collect()
}

#[tokio::test]
async fn a_job_does_not_wait_for_the_backlog_of_another_owner() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    queue::enqueue(&db, &jobs_of("hoarder", &model, 2_000))
        .await
        .unwrap();
    queue::enqueue(&db, &jobs_of("guest", &model, 1))
        .await
        .unwrap();
    let next = owners_of_next(&db, 3).await;
    assert!(next.contains(&"guest".to_owned()), "{next:?}");
}

#[tokio::test]
async fn a_new_owner_gets_half_of_the_claims_beside_a_backlog() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    queue::enqueue(&db, &jobs_of("hoarder", &model, 500))
        .await
        .unwrap();
    assert_eq!(owners_of_next(&db, 300).await, vec!["hoarder"; 300]);
    queue::enqueue(&db, &jobs_of("guest", &model, 20))
        .await
        .unwrap();
    let next = owners_of_next(&db, 40).await;
    let guests = next.iter().filter(|owner| *owner == "guest").count();
    assert!((18..=20).contains(&guests), "{guests} of 40");
}

/// An owner that was idle gets its share from now on, and no more.
#[tokio::test]
async fn an_idle_owner_gets_no_credit_for_the_past() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    queue::enqueue(&db, &jobs_of("idler", &model, 1))
        .await
        .unwrap();
    owners_of_next(&db, 1).await;
    queue::enqueue(&db, &jobs_of("worker-bee", &model, 400))
        .await
        .unwrap();
    owners_of_next(&db, 300).await;
    queue::enqueue(&db, &jobs_of("idler", &model, 100))
        .await
        .unwrap();
    let next = owners_of_next(&db, 40).await;
    let busy = next.iter().filter(|owner| *owner == "worker-bee").count();
    assert!((18..=22).contains(&busy), "{busy} of 40");
}

/// An owner that submits jobs one by one gets the share of an owner that submits all jobs at once.
#[tokio::test]
async fn many_small_submits_get_as_many_claims_as_one_large_submit() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    queue::enqueue(&db, &jobs_of("bulk", &model, 60))
        .await
        .unwrap();
    for job in jobs_of("single", &model, 30) {
        queue::enqueue(&db, &[job]).await.unwrap();
    }
    let next = owners_of_next(&db, 40).await;
    let single = next.iter().filter(|owner| *owner == "single").count();
    assert!((18..=22).contains(&single), "{single} of 40");
}

#[tokio::test]
async fn jobs_of_one_owner_keep_their_order() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let mut submitted: Vec<JobId> = Vec::new();
    for batch in [3, 1, 5] {
        let jobs = jobs_of("alice", &model, batch);
        submitted.extend(jobs.iter().map(|job| job.id));
        queue::enqueue(&db, &jobs).await.unwrap();
    }
    let worker = given::worker(&db, "w").await;
    let claims = tests::claiming::claim(&db, worker, &[], 20).await.unwrap();
    let claimed: Vec<_> = claims.iter().map(|claim| claim.lease.job_id).collect();
    assert_eq!(claimed, submitted);
}

/// Without turns a steady stream of one owner's urgent jobs would keep the jobs of all other owners waiting for ever.
#[tokio::test]
async fn lower_priorities_get_their_share_beside_a_backlog_of_urgent_jobs() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    for (owner, priority) in [("hoarder", 100), ("guest", 0), ("night", -100)] {
        let mut jobs = jobs_of(owner, &model, 300);
        for job in &mut jobs {
            job.priority = priority;
        }
        queue::enqueue(&db, &jobs).await.unwrap();
    }
    let worker = given::worker(&db, "w").await;
    let lower_levels = LowerLevels::with_share(0.2);
    let mut owners = Vec::new();
    for _ in 0..30 {
        let claims = tests::claiming::claim_with_turns(&db, worker, 8, &lower_levels);
        let claims = claims.await.unwrap();
        assert_eq!(claims.len(), 8, "a turn takes no place from the claim");
        owners.extend(claims.into_iter().map(|claim| claim.owner));
    }
    let of = |name: &str| owners.iter().filter(|owner| *owner == name).count();
    assert!((180..=204).contains(&of("hoarder")), "{owners:?}");
    assert!(of("guest") >= 15 && of("night") >= 15, "{owners:?}");
}

#[tokio::test]
async fn without_a_backlog_of_urgent_jobs_the_order_is_strict() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    for (owner, priority) in [("guest", 0), ("urgent", 100)] {
        let mut jobs = jobs_of(owner, &model, 6);
        for job in &mut jobs {
            job.priority = priority;
        }
        queue::enqueue(&db, &jobs).await.unwrap();
    }
    let worker = given::worker(&db, "w").await;
    let lower_levels = LowerLevels::with_share(0.1);
    let claims = tests::claiming::claim_with_turns(&db, worker, 6, &lower_levels);
    let claims = claims.await.unwrap();
    assert!(claims.iter().all(|claim| claim.owner == "urgent"));
}
