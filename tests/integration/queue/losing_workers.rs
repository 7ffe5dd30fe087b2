//! Rescue and release: what becomes of jobs when their worker goes.

use futures_util::future::join_all;
use insta::assert_snapshot;
use jobs::queue;
use tests::{clock, database::wait_until_done_or_blocked, dump, given};

#[tokio::test]
async fn rescue_gives_back_the_jobs_of_a_lost_worker_uncharged() {
    let db = given::database().await;
    given::queued(&db, ["cat", "dog"]).await;
    let lost = given::claimed_by(&db, "lost").await;
    let alive = given::claimed_by(&db, "alive").await;
    clock::lease_ran_out(&db, lost.worker).await;
    assert_eq!(queue::rescue(&*db).await.unwrap().len(), 1);
    assert_snapshot!(dump(&db).await, @r"
    cat queued lease=2 charged=0/3 interruptions=1/3
      1 lost lost free worker_lost
    dog running lease=1 charged=0/3 interruptions=0/3 worker=alive
    ");
    drop(alive);
}

#[tokio::test]
async fn rescue_takes_the_jobs_of_a_worker_that_left_without_releasing_them() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let gone = given::claimed_by(&db, "gone").await;
    queue::deregister(&db, gone.worker).await.unwrap();
    assert_eq!(queue::rescue(&*db).await.unwrap().len(), 1);
    assert_snapshot!(dump(&db).await, @r"
    cat queued lease=2 charged=0/3 interruptions=1/3
      1 gone lost free worker_lost
    ");
}

#[tokio::test]
async fn a_job_that_outlives_too_many_workers_ends_failed() {
    let db = given::database().await;
    given::queued(&db, ["killer"]).await;
    for name in ["one", "two", "three"] {
        let lost = given::claimed_by(&db, name).await;
        clock::lease_ran_out(&db, lost.worker).await;
        assert_eq!(queue::rescue(&*db).await.unwrap().len(), 1);
    }
    assert_snapshot!(dump(&db).await, @r"
    killer failed lease=6 charged=0/3 interruptions=3/3 worker=three problem=too_many_interruptions
      1 one lost free worker_lost
      2 two lost free worker_lost
      3 three lost free worker_lost
    ");
}

#[tokio::test]
async fn a_job_whose_cancel_was_asked_for_ends_with_its_lost_worker() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let lost = given::claimed_by(&db, "lost").await;
    queue::cancel(&db, cat, Some(given::OWNER)).await.unwrap();
    clock::lease_ran_out(&db, lost.worker).await;
    queue::rescue(&*db).await.unwrap();
    assert_snapshot!(dump(&db).await, @r"
    cat canceled lease=2 charged=0/3 interruptions=0/3 worker=lost
      1 lost canceled free -
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn rescuers_at_once_take_each_job_once() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let jobs: Vec<_> = (0..200)
        .map(|n| given::job(&model, &n.to_string()))
        .collect();
    queue::enqueue(&db, &jobs).await.unwrap();
    let worker = given::worker(&db, "lost").await;
    assert_eq!(
        queue::claim(&db, worker, &[], 200).await.unwrap().len(),
        200
    );
    clock::lease_ran_out(&db, worker).await;
    let taken = join_all((0..6).map(|_| queue::rescue(&*db))).await;
    let taken: usize = taken.into_iter().map(|jobs| jobs.unwrap().len()).sum();
    assert_eq!(taken, 200);
    let again: i64 = sqlx::query_scalar(
        "select count(*) from live_jobs where state = 'queued' and lease_no = 2 and interruptions = 1",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    assert_eq!(again, 200);
}

/// What two rescuers see as lost at the same moment, one of them gives back: an interruption is counted once.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rescuer_is_taking_no_other_rescuer_takes() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let lost = given::claimed_by(&db, "lost").await;
    clock::lease_ran_out(&db, lost.worker).await;
    let rival = db.in_open_transaction().await;
    assert_eq!(queue::rescue(&rival).await.unwrap().len(), 1);
    let pool = db.another_pool();
    let other = tokio::spawn(async move { queue::rescue(&pool).await });
    wait_until_done_or_blocked(&db, &other).await;
    sqlx::raw_sql("commit").execute(&rival).await.unwrap();
    assert_eq!(other.await.unwrap().unwrap(), []);
    assert_snapshot!(dump(&db).await, @r"
    cat queued lease=2 charged=0/3 interruptions=1/3
      1 lost lost free worker_lost
    ");
}

/// A rescuer must not wait for a row that somebody else is just taking.
#[tokio::test]
async fn a_rescuer_passes_over_a_job_that_is_being_completed() {
    let db = given::database().await;
    given::queued(&db, ["busy", "idle"]).await;
    let worker = given::worker(&db, "late").await;
    let claims = queue::claim(&db, worker, &[], 2).await.unwrap();
    clock::lease_ran_out(&db, worker).await;
    let mut rival = db.begin().await.unwrap();
    sqlx::query("select from live_jobs where job_id = $1 for update")
        .bind(claims[0].lease.job_id.uuid())
        .execute(&mut *rival)
        .await
        .unwrap();
    assert_eq!(queue::rescue(&*db).await.unwrap().len(), 1);
    rival.rollback().await.unwrap();
    assert_eq!(queue::rescue(&*db).await.unwrap().len(), 1);
}

#[tokio::test]
async fn release_costs_nothing_and_keeps_the_place() {
    let db = given::database().await;
    let [cat, dog] = given::queued(&db, ["cat", "dog"]).await;
    for name in ["one", "two", "three", "four"] {
        let held = given::claimed_by(&db, name).await;
        assert_eq!(held.job_id(), cat, "it is still the first in its queue");
        assert_eq!(
            tests::settling::release(&db, &[held.lease()])
                .await
                .unwrap(),
            [cat]
        );
    }
    assert_snapshot!(dump(&db).await, @r"
    cat queued lease=8 charged=0/3 interruptions=0/3
      1 one released free -
      2 two released free -
      3 three released free -
      4 four released free -
    dog queued lease=0 charged=0/3 interruptions=0/3
    ");
    let _ = dog;
}

#[tokio::test]
async fn release_ends_a_job_whose_cancel_was_asked_for() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    queue::cancel(&db, cat, Some(given::OWNER)).await.unwrap();
    assert_eq!(
        tests::settling::release(&db, &[held.lease()])
            .await
            .unwrap(),
        [cat]
    );
    assert_snapshot!(dump(&db).await, @r"
    cat canceled lease=1 charged=0/3 interruptions=0/3 worker=w
      1 w canceled free -
    ");
}

/// I17: only the database's clock decides, so a worker's may be ten minutes off.
#[tokio::test]
async fn a_lease_is_measured_by_the_clock_of_the_database() {
    let db = given::database().await;
    let worker = given::worker(&db, "w").await;
    queue::heartbeat(&db, worker, 30.0).await.unwrap();
    let left: f64 = sqlx::query_scalar(
        "select extract(epoch from lease_until - now())::float8 from workers where worker_id = $1",
    )
    .bind(worker.0)
    .fetch_one(&*db)
    .await
    .unwrap();
    assert!((25.0..=30.0).contains(&left), "{left}");
}
