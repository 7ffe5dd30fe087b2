//! `explain`: why a job waits, and for how long.

use insta::assert_snapshot;
use jobs::{JobId, Problem, ProblemCode, queue};
use sqlx::Row;
use tests::{clock, given};

const OWNER: Option<&str> = Some(given::OWNER);

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

#[tokio::test]
async fn explain_says_why_a_job_waits() {
    let db = given::database().await;
    let [cat, dog] = given::queued(&db, ["cat", "dog"]).await;
    let why = async |job: JobId| {
        let explained = queue::explain(&db, job, OWNER).await.unwrap().unwrap();
        (
            explained.status,
            explained.jobs_ahead,
            explained.live_workers,
            explained.blocked_by.join("; "),
        )
    };
    assert_snapshot!(format!("{:?}", why(dog).await), @r#"("queued", 1, 0, "no worker that runs model lite has ever been here; 1 jobs of its model are ahead of it")"#);
    let held = given::claimed_by(&db, "w").await;
    assert_snapshot!(format!("{:?}", why(dog).await), @r#"("queued", 0, 1, "")"#);
    queue::cancel(&db, cat, OWNER).await.unwrap();
    assert_snapshot!(format!("{:?}", why(cat).await), @r#"("running", 0, 1, "a cancel was asked for, and its worker w has not let go yet")"#);
    clock::lease_ran_out(&db, held.worker).await;
    assert!(
        why(cat)
            .await
            .3
            .starts_with("its worker w has been silent for too long")
    );
    assert!(
        why(dog)
            .await
            .3
            .starts_with("no live worker runs model lite; the last one, w, was there until")
    );
    let other = given::claimed_by(&db, "other").await;
    tests::settling::retry(&db, &[(other.lease(), fault())])
        .await
        .unwrap();
    clock::stays_scheduled(&db, dog).await;
    let backing_off = why(dog).await.3;
    assert!(
        backing_off.starts_with("it backs off until")
            && backing_off.ends_with("after attempt 1: model_error"),
        "{backing_off}"
    );
    clock::came_due(&db, dog).await;
    assert!(why(dog).await.3.contains("no housekeeping has queued it"));
    queue::drain(&db, other.worker, "me").await.unwrap();
    assert!(
        why(dog)
            .await
            .3
            .contains("the only workers that run model lite are draining")
    );
    assert!(
        queue::explain(&db, dog, Some("bob"))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn explain_estimates_the_start_by_the_measured_rate() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let jobs: Vec<_> = (0..1_260).map(|_| given::job(&model, "any")).collect();
    queue::enqueue(&db, &jobs).await.unwrap();
    let worker = given::worker(&db, "w").await;
    let claims = tests::claiming::claim(&db, worker, &[], 1_200)
        .await
        .unwrap();
    let done: Vec<_> = claims
        .iter()
        .map(|claim| given::completion(claim.lease, "done"))
        .collect();
    tests::settling::complete(&db, &done).await.unwrap();
    let explained = queue::explain(&db, jobs[1_259].id, OWNER)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((explained.jobs_ahead, explained.live_workers), (59, 1));
    let rate = explained.finished_per_second;
    assert!(
        (rate - 120.0).abs() < 1e-9,
        "1200 within ten seconds: {rate}"
    );
    assert!((explained.starts_in_seconds.unwrap() - 59.0 / 120.0).abs() < 1e-9);
    let row = sqlx::query("select queued, desired_workers, live_workers from ops.scaling")
        .fetch_one(&*db)
        .await
        .unwrap();
    assert_eq!(
        (
            row.get::<i64, _>("queued"),
            row.get::<i64, _>("live_workers")
        ),
        (60, 1)
    );
    assert!(row.get::<i64, _>("desired_workers") >= 1);
}
