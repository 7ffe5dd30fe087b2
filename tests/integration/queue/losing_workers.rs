//! Rescue and release: the jobs of a worker that is lost or leaves.

use futures_util::future::join_all;
use insta::assert_snapshot;
use jobs::queue;
use tests::{clock, database::wait_until_done_or_blocked, dump, given};

#[tokio::test]
async fn rescue_requeues_the_jobs_of_a_lost_worker_uncharged() {
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
async fn rescue_requeues_the_jobs_of_a_worker_that_left() {
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
async fn a_job_that_loses_too_many_workers_ends_failed() {
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
async fn rescue_ends_a_job_with_a_requested_cancel() {
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
async fn concurrent_rescues_take_each_job_once() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let jobs: Vec<_> = (0..200)
        .map(|n| given::job(&model, &n.to_string()))
        .collect();
    queue::enqueue(&db, &jobs).await.unwrap();
    let worker = given::worker(&db, "lost").await;
    assert_eq!(
        tests::claiming::claim(&db, worker, &[], 200)
            .await
            .unwrap()
            .len(),
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

/// Two rescues see one lost job at the same moment, and the interruption is counted once.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_an_uncommitted_rescue_is_not_rescued_again() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let lost = given::claimed_by(&db, "lost").await;
    clock::lease_ran_out(&db, lost.worker).await;
    let uncommitted = db.in_open_transaction().await;
    assert_eq!(queue::rescue(&uncommitted).await.unwrap().len(), 1);
    let pool = db.another_pool();
    let other = tokio::spawn(async move { queue::rescue(&pool).await });
    wait_until_done_or_blocked(&db, &other).await;
    sqlx::raw_sql("commit").execute(&uncommitted).await.unwrap();
    assert_eq!(other.await.unwrap().unwrap(), []);
    assert_snapshot!(dump(&db).await, @r"
    cat queued lease=2 charged=0/3 interruptions=1/3
      1 lost lost free worker_lost
    ");
}

/// A rescue must not wait for a row that another transaction has locked.
#[tokio::test]
async fn rescue_skips_a_locked_job() {
    let db = given::database().await;
    given::queued(&db, ["busy", "idle"]).await;
    let worker = given::worker(&db, "late").await;
    let claims = tests::claiming::claim(&db, worker, &[], 2).await.unwrap();
    clock::lease_ran_out(&db, worker).await;
    let mut lock_holder = db.begin().await.unwrap();
    sqlx::query("select from live_jobs where job_id = $1 for update")
        .bind(claims[0].lease.job_id.uuid())
        .execute(&mut *lock_holder)
        .await
        .unwrap();
    assert_eq!(queue::rescue(&*db).await.unwrap().len(), 1);
    lock_holder.rollback().await.unwrap();
    assert_eq!(queue::rescue(&*db).await.unwrap().len(), 1);
}

#[tokio::test]
async fn release_charges_nothing_and_keeps_the_place_in_the_queue() {
    let db = given::database().await;
    let [cat, dog] = given::queued(&db, ["cat", "dog"]).await;
    for name in ["one", "two", "three", "four"] {
        let held = given::claimed_by(&db, name).await;
        assert_eq!(
            held.job_id(),
            cat,
            "the job must keep its place in the queue"
        );
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
async fn release_ends_a_job_with_a_requested_cancel() {
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

/// I17: only the clock of the database decides, so the clock of a worker may be wrong.
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
