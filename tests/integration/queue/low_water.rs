//! Low-water marks save time and change nothing else (docs/adr/0009-low-water-marks.md).

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use jobs::{
    JobId, WorkerId,
    models::Resolved,
    queue::{self, LowWater, NewJob},
};
use sqlx::PgPool;
use tests::given;

/// More jobs than are claimed until the marks are set, so that every claim is full.
const BACKLOG: usize = 4_000;

/// A claimer with a backlog and with marks behind its claimed jobs.
struct Claimer {
    db: given::Database,
    model: Resolved,
    worker: WorkerId,
    low_water: LowWater,
    /// The first claimed job, far below the mark.
    first: queue::Lease,
}

impl Claimer {
    async fn with_marks() -> Self {
        let db = given::database().await;
        let model = given::model_version(&db, given::MODEL).await;
        enqueue(&db, &model, "hoarder", BACKLOG).await;
        let (worker, low_water) = (given::worker(&db, "w").await, LowWater::default());
        let claims = tests::claiming::claim_with(&db, worker, &[], 1, &low_water).await;
        let first = claims.unwrap()[0].lease;
        tests::eventually(Duration::from_secs(20), "the marks are set", || async {
            let claims = tests::claiming::claim_with(&db, worker, &[], 1, &low_water).await;
            assert_eq!(claims.unwrap().len(), 1, "the backlog must not run out");
            low_water.is_marked().then_some(())
        })
        .await;
        Self {
            db,
            model,
            worker,
            low_water,
            first,
        }
    }

    async fn claim(&self, limit: u16) -> Vec<queue::Claim> {
        let claims =
            tests::claiming::claim_with(&self.db, self.worker, &[], limit, &self.low_water);
        claims.await.unwrap()
    }
}

async fn enqueue(db: &PgPool, model: &Resolved, owner: &str, count: usize) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count)
        .map(|n| NewJob {
            owner: owner.into(),
            ..given::job(model, &format!("{owner} {n}"))
        })
        .collect();
    queue::enqueue(db, &jobs).await.unwrap();
    jobs.iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn a_released_job_below_the_mark_is_claimed_despite_a_backlog() {
    let claimer = Claimer::with_marks().await;
    tests::settling::release(&claimer.db, &[claimer.first])
        .await
        .unwrap();
    let released = Instant::now();
    let found = tests::eventually(
        Duration::from_secs(20),
        "the released job is claimed again",
        || async {
            let claims = claimer.claim(1).await;
            assert_eq!(claims.len(), 1, "the backlog must not run out");
            (claims[0].lease.job_id == claimer.first.job_id).then(|| released.elapsed())
        },
    )
    .await;
    // Claims sweep once a second; the rest of the time is for a slow machine.
    assert!(found < Duration::from_secs(5), "found after {found:?}");
}

#[tokio::test]
async fn a_claim_that_finds_nothing_above_the_mark_looks_below() {
    let claimer = Claimer::with_marks().await;
    sqlx::query("delete from live_jobs where state = 'queued'")
        .execute(&*claimer.db)
        .await
        .unwrap();
    tests::settling::release(&claimer.db, &[claimer.first])
        .await
        .unwrap();
    let claims = claimer.claim(5).await;
    assert_eq!(claims[0].lease.job_id, claimer.first.job_id);
}

#[tokio::test]
async fn a_job_of_a_new_higher_priority_is_claimed_first() {
    let claimer = Claimer::with_marks().await;
    for priority in [3, -3, 9] {
        let urgent = NewJob {
            priority,
            ..given::job(&claimer.model, "other")
        };
        queue::enqueue(&claimer.db, std::slice::from_ref(&urgent))
            .await
            .unwrap();
    }
    let next = claimer.claim(3).await;
    let priorities: Vec<i16> = sqlx::query_scalar(
        "select priority from live_jobs where job_id = any($1) order by priority desc",
    )
    .bind(
        next.iter()
            .map(|claim| claim.lease.job_id.uuid())
            .collect::<Vec<_>>(),
    )
    .fetch_all(&*claimer.db)
    .await
    .unwrap();
    assert_eq!(priorities, [9, 3, 0]);
}

#[tokio::test]
async fn a_new_owner_gets_half_of_the_claims_above_the_mark() {
    let claimer = Claimer::with_marks().await;
    enqueue(&claimer.db, &claimer.model, "guest", 20).await;
    let next = claimer.claim(40).await;
    let guests = next.iter().filter(|claim| claim.owner == "guest").count();
    assert!((18..=20).contains(&guests), "{guests} of 40");
}

/// I6 with marks: each job has at most one live lease, and no job is left over.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_claimers_with_marks_claim_each_job_once() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let queued = enqueue(&db, &model, "any", 600).await;
    let claimer = |name: String| {
        let db = &db;
        async move {
            let (worker, low_water) = (given::worker(db, &name).await, LowWater::default());
            let mut mine = Vec::new();
            loop {
                let claims = tests::claiming::claim_with(db, worker, &[], 7, &low_water).await;
                let claims = claims.unwrap();
                if claims.is_empty() {
                    return mine;
                }
                mine.extend(claims.iter().map(|claim| claim.lease.job_id));
            }
        }
    };
    let mut taken = join_all((0..6).map(|n| claimer(format!("w{n}"))))
        .await
        .concat();
    // A claimer stops early if other claims have locked every row.
    taken.extend(claimer("last".into()).await);
    let distinct: HashSet<_> = taken.iter().collect();
    assert_eq!(distinct.len(), taken.len(), "a job was claimed twice");
    assert_eq!(distinct, queued.iter().collect());
}
