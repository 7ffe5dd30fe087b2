//! I4, I5: a worker without the live lease of a job changes nothing.

use insta::assert_snapshot;
use jobs::{
    JobState, LeaseNo, Problem, ProblemCode,
    queue::{self, QueueError, RetryOutcome},
};
use tests::{clock, dump, given};

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

/// A job whose lease `late` lost and `fresh` has now.
async fn taken_over(db: &sqlx::PgPool) -> (given::Held, given::Held) {
    given::queued(db, ["cat"]).await;
    let late = given::claimed_by(db, "late").await;
    clock::lease_ran_out(db, late.worker).await;
    assert_eq!(queue::rescue(db).await.unwrap().len(), 1);
    let fresh = given::claimed_by(db, "fresh").await;
    assert_eq!(fresh.job_id(), late.job_id());
    (late, fresh)
}

const HELD_BY_FRESH: &str = "cat running lease=3 charged=0/3 interruptions=1/3 worker=fresh\n  1 late lost free worker_lost\n";

#[tokio::test]
async fn a_stale_lease_cannot_complete_a_job() {
    let db = given::database().await;
    let (late, fresh) = taken_over(&db).await;
    let landed = tests::settling::complete(&db, &[late.completion("late")])
        .await
        .unwrap();
    assert_eq!(landed, []);
    assert_eq!(dump(&db).await, HELD_BY_FRESH);
    let landed = tests::settling::complete(&db, &[fresh.completion("fresh")])
        .await
        .unwrap();
    assert_eq!(landed, [fresh.job_id()]);
    assert_snapshot!(dump(&db).await, @r#"
    cat succeeded lease=3 charged=1/3 interruptions=1/3 worker=fresh result={"answer":"fresh"}
      1 late lost free worker_lost
    "#);
}

#[tokio::test]
async fn a_stale_lease_cannot_fail_a_job() {
    let db = given::database().await;
    let (late, _) = taken_over(&db).await;
    assert_eq!(
        tests::settling::fail(&db, &[(late.lease(), fault())])
            .await
            .unwrap(),
        []
    );
    assert_eq!(dump(&db).await, HELD_BY_FRESH);
}

#[tokio::test]
async fn a_stale_lease_cannot_retry_a_job() {
    let db = given::database().await;
    let (late, _) = taken_over(&db).await;
    assert_eq!(
        tests::settling::retry(&db, &[(late.lease(), fault())])
            .await
            .unwrap(),
        []
    );
    assert_eq!(dump(&db).await, HELD_BY_FRESH);
}

#[tokio::test]
async fn a_stale_lease_cannot_release_a_job() {
    let db = given::database().await;
    let (late, _) = taken_over(&db).await;
    assert_eq!(
        tests::settling::release(&db, &[late.lease()])
            .await
            .unwrap(),
        []
    );
    assert_eq!(dump(&db).await, HELD_BY_FRESH);
}

#[tokio::test]
async fn a_result_is_committed_once() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(
        tests::settling::complete(&db, &[held.completion("first")])
            .await
            .unwrap(),
        [held.job_id()]
    );
    assert_eq!(
        tests::settling::complete(&db, &[held.completion("second")])
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        tests::settling::fail(&db, &[(held.lease(), fault())])
            .await
            .unwrap(),
        []
    );
    assert_snapshot!(dump(&db).await, @r#"cat succeeded lease=1 charged=1/3 interruptions=0/3 worker=w result={"answer":"first"}"#);
}

/// One statement completes many jobs; only the completions with stale leases are dropped.
#[tokio::test]
async fn a_stale_lease_does_not_stop_the_other_completions() {
    let db = given::database().await;
    let (late, fresh) = taken_over(&db).await;
    given::queued(&db, ["dog"]).await;
    let dog = given::claimed_by(&db, "kennel").await;
    let batch = [
        late.completion("late"),
        dog.completion("woof"),
        fresh.completion("fresh"),
    ];
    let mut landed = tests::settling::complete(&db, &batch).await.unwrap();
    landed.sort();
    assert_eq!(landed, [fresh.job_id(), dog.job_id()]);
    assert_snapshot!(dump(&db).await, @r#"
    cat succeeded lease=3 charged=1/3 interruptions=1/3 worker=fresh result={"answer":"fresh"}
      1 late lost free worker_lost
    dog succeeded lease=1 charged=1/3 interruptions=0/3 worker=kennel result={"answer":"woof"}
    "#);
}

/// A release refunds the attempt, so a counter of attempts cannot be the fencing token.
#[tokio::test]
async fn a_released_lease_is_stale() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let early = given::claimed_by(&db, "early").await;
    tests::settling::release(&db, &[early.lease()])
        .await
        .unwrap();
    let fresh = given::claimed_by(&db, "fresh").await;
    assert!(fresh.lease().lease_no > early.lease().lease_no);
    assert_eq!(
        tests::settling::complete(&db, &[early.completion("early")])
            .await
            .unwrap(),
        []
    );
}

/// A worker that got no answer to its first outcome may send a second outcome.
#[tokio::test]
async fn a_lease_from_before_a_retry_by_hand_is_stale() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::fail(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    let again = queue::retry(&db, cat, Some(given::OWNER)).await;
    assert_eq!(again.unwrap(), RetryOutcome::Queued);
    let landed = tests::settling::complete(&db, &[held.completion("late")]).await;
    assert_eq!(landed.unwrap(), []);
    let job = queue::find(&db, cat, given::OWNER).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Queued);
}

#[tokio::test]
async fn an_expired_worker_cannot_renew_its_lease() {
    let db = given::database().await;
    let worker = given::worker(&db, "spot").await;
    queue::heartbeat(&db, worker, 60.0).await.unwrap();
    clock::lease_ran_out(&db, worker).await;
    let renewed = queue::heartbeat(&db, worker, 60.0).await;
    assert!(matches!(renewed, Err(QueueError::LeaseLost)), "{renewed:?}");
}

#[tokio::test]
async fn an_expired_worker_cannot_claim() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let worker = given::worker(&db, "spot").await;
    clock::lease_ran_out(&db, worker).await;
    assert!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .is_empty()
    );
    assert_snapshot!(dump(&db).await, @"cat queued lease=0 charged=0/3 interruptions=0/3");
}

#[tokio::test]
async fn a_worker_that_left_can_neither_renew_nor_claim() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let worker = given::worker(&db, "spot").await;
    queue::deregister(&db, worker).await.unwrap();
    assert!(matches!(
        queue::heartbeat(&db, worker, 60.0).await,
        Err(QueueError::LeaseLost)
    ));
    assert!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_draining_worker_cannot_claim() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let worker = given::worker(&db, "spot").await;
    queue::drain(&db, worker, "operator").await.unwrap();
    assert!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .is_empty()
    );
    assert_snapshot!(dump(&db).await, @"cat queued lease=0 charged=0/3 interruptions=0/3");
}

#[tokio::test]
async fn a_worker_id_is_never_used_again() {
    let db = given::database().await;
    let first = given::worker(&db, "spot").await;
    queue::deregister(&db, first).await.unwrap();
    assert_ne!(first, given::worker(&db, "spot").await);
}

#[tokio::test]
async fn a_heartbeat_returns_the_held_and_the_canceled_jobs() {
    let db = given::database().await;
    let [kept, unwanted, taken] = given::queued(&db, ["kept", "unwanted", "taken"]).await;
    let worker = given::worker(&db, "spot").await;
    tests::claiming::claim(&db, worker, &[], 3).await.unwrap();
    queue::cancel(&db, unwanted, Some(given::OWNER))
        .await
        .unwrap();
    clock::attempt_ran_too_long(&db, taken).await;
    queue::time_out(&*db).await.unwrap();
    let heartbeat = queue::heartbeat(&db, worker, 60.0).await.unwrap();
    let held = [kept, unwanted].map(|job_id| queue::Lease {
        job_id,
        lease_no: LeaseNo(1),
    });
    assert_eq!(heartbeat.held, held);
    assert_eq!(heartbeat.canceled, [unwanted]);
    assert!(!heartbeat.draining);
}
