//! `enqueue`, and the enqueuer that commits many submits at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use insta::assert_snapshot;
use jobs::{
    Sha256Digest,
    queue::{self, Enqueuer, EnqueuerConfig, IdempotencyKey, QueueError, WorkerListener},
};
use serde_json::json;
use tests::{database::wait_until_done_or_blocked, dump, given};

const CONFIG: EnqueuerConfig = EnqueuerConfig {
    enqueue_batch_max: 500,
    enqueue_waiting_max: 2_000,
    enqueue_company_ms: 5,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_value_fails_alone_among_a_hundred_concurrent_submits() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let enqueuer = Enqueuer::start(db.clone(), &CONFIG);
    let mut jobs: Vec<_> = (0..101)
        .map(|n| given::job(&model, &n.to_string()))
        .collect();
    // Postgres refuses a NUL character in jsonb.
    jobs[50].metadata["name"] = json!("zero\0");
    let (bad, ids): (_, Vec<_>) = (jobs[50].id, jobs.iter().map(|job| job.id).collect());
    let answers = join_all(jobs.into_iter().map(|job| enqueuer.submit(job))).await;
    for (id, answer) in ids.into_iter().zip(answers) {
        let found = queue::find(&db, id, given::OWNER).await.unwrap();
        if id == bad {
            assert!(matches!(answer, Err(QueueError::Db(_))), "{answer:?}");
            assert!(found.is_none());
        } else {
            assert_eq!(answer.unwrap().job_id, id);
            assert!(
                found.is_some(),
                "{id} was acknowledged and is not in the database"
            );
        }
    }
}

#[tokio::test]
async fn a_submit_is_refused_at_once_when_too_many_submits_wait() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let config = EnqueuerConfig {
        enqueue_batch_max: 1,
        enqueue_waiting_max: 2,
        ..CONFIG
    };
    // No submit can commit while the lanes are locked.
    let mut lock_holder = db.begin().await.unwrap();
    sqlx::query("lock table lanes in access exclusive mode")
        .execute(&mut *lock_holder)
        .await
        .unwrap();
    let enqueuer = Enqueuer::start(db.clone(), &config);
    let jobs: Vec<_> = (0..10)
        .map(|n| given::job(&model, &n.to_string()))
        .collect();
    let submits = join_all(jobs.into_iter().map(|job| enqueuer.submit(job)));
    let unlock = async {
        tests::database::wait_for_a_blocked_statement(&db).await;
        lock_holder.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(submits, unlock);
    let full = answers
        .iter()
        .filter(|answer| matches!(answer, Err(QueueError::Full)))
        .count();
    assert!((7..=8).contains(&full), "{full} of 10 refused");
    assert_eq!(
        answers.iter().filter(|answer| answer.is_ok()).count(),
        10 - full
    );
}

/// The longest wait for pending uploads; no test waits until the end.
const LONG_WAIT: EnqueuerConfig = EnqueuerConfig {
    enqueue_company_ms: 60_000,
    ..CONFIG
};

#[tokio::test]
async fn a_pending_upload_shares_the_commit_of_a_waiting_submit() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let enqueuer = Enqueuer::start(db.clone(), &LONG_WAIT);
    let [first, second] = ["first", "second"].map(|name| given::job(&model, name));
    let pending = enqueuer.announce_upload();
    let waiting = tokio::spawn({
        let enqueuer = enqueuer.clone();
        async move { enqueuer.submit(first).await }
    });
    // One round trip to the database: a commit that does not wait for the pending upload would start meanwhile.
    queue::unended(&db, given::OWNER).await.unwrap();
    let second = pending.submit(second).await.unwrap();
    let first = waiting.await.unwrap().unwrap();
    assert_eq!(first.created_at, second.created_at, "one transaction");
}

#[tokio::test]
async fn a_dropped_pending_upload_does_not_delay_the_commit() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let enqueuer = Enqueuer::start(db.clone(), &LONG_WAIT);
    let (refused, dropped_before) = (enqueuer.announce_upload(), enqueuer.announce_upload());
    drop(dropped_before);
    let submit = enqueuer.submit(given::job(&model, "there"));
    let drop_later = async {
        queue::unended(&db, given::OWNER).await.unwrap();
        drop(refused);
    };
    let begun = Instant::now();
    let (submitted, ()) = tokio::join!(submit, drop_later);
    submitted.unwrap();
    let longest_wait = Duration::from_millis(LONG_WAIT.enqueue_company_ms);
    assert!(begun.elapsed() < longest_wait / 2);
}

/// The client disconnects after the submit reached the enqueuer, and before the answer.
#[tokio::test]
async fn a_submit_is_committed_after_its_caller_has_left() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let enqueuer = Enqueuer::start(db.clone(), &CONFIG);
    let job = given::job(&model, "left");
    let id = job.id;
    // The first poll sends the job to the enqueuer; the future is dropped before the answer.
    let submit = enqueuer.submit(job);
    assert!(
        tokio::time::timeout(Duration::ZERO, submit).await.is_err(),
        "the commit must take longer than one poll"
    );
    tests::eventually(
        Duration::from_secs(10),
        "the job is in the database",
        || async { queue::find(&db, id, given::OWNER).await.unwrap() },
    )
    .await;
}

#[tokio::test]
async fn enqueue_is_all_or_none() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let mut jobs = [given::job(&model, "good"), given::job(&model, "bad")];
    jobs[1].metadata["name"] = json!("\0");
    assert!(queue::enqueue(&db, &jobs).await.is_err());
    assert_eq!(dump(&db).await, "");
    let images: i64 = sqlx::query_scalar("select count(*) from images")
        .fetch_one(&*db)
        .await
        .unwrap();
    assert_eq!(images, 0);
}

#[tokio::test]
async fn jobs_of_one_image_share_one_image_row() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let jobs = [given::job(&model, "cat"), given::job(&model, "cat")];
    queue::enqueue(&db, &jobs).await.unwrap();
    assert_snapshot!(dump(&db).await, @r"
    cat queued lease=0 charged=0/3 interruptions=0/3
    cat queued lease=0 charged=0/3 interruptions=0/3
    ");
    let images: i64 = sqlx::query_scalar("select count(*) from images")
        .fetch_one(&*db)
        .await
        .unwrap();
    assert_eq!(images, 1);
}

/// Several API processes lock rows of lanes and images; without one common order they would deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn submits_of_several_processes_do_not_deadlock() {
    let db = given::database().await;
    let models = [
        given::model_version(&db, "one").await,
        given::model_version(&db, "two").await,
    ];
    let owners = ["alice", "bob", "carol"];
    let process = |reversed: bool| {
        let (pool, models) = (db.another_pool(), models.clone());
        async move {
            for _ in 0..20 {
                let mut jobs = Vec::new();
                for n in 0..12 {
                    let mut job = given::job(&models[n % 2], &format!("picture {}", n % 4));
                    job.owner = owners[n % 3].into();
                    jobs.push(job);
                }
                if reversed {
                    jobs.reverse();
                }
                queue::enqueue(&pool, &jobs).await.unwrap();
            }
        }
    };
    let (a, b) = (tokio::spawn(process(false)), tokio::spawn(process(true)));
    a.await.unwrap();
    b.await.unwrap();
    let seqs: (i64, i64) = sqlx::query_as(
        "select count(*), count(distinct (model_id, priority, owner, seq)) from live_jobs",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    assert_eq!(seqs, (480, 480), "no two jobs of a lane share a place");
}

/// I12: the second copy of a request waits for the commit of the first copy and then queues nothing.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_submits_with_one_key_queue_one_job() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let submit = |name| {
        let key = IdempotencyKey {
            key: "k".into(),
            fingerprint: Sha256Digest::of(b"what was asked"),
        };
        let mut job = given::job(&model, name);
        job.idempotency = Some(key);
        job
    };
    let (first, second) = (submit("first"), submit("second"));
    let id = first.id;
    let uncommitted = db.in_open_transaction().await;
    assert_eq!(
        queue::enqueue(&uncommitted, &[first]).await.unwrap().len(),
        1
    );
    let pool = db.another_pool();
    let other = tokio::spawn(async move { queue::enqueue(&pool, &[second]).await });
    wait_until_done_or_blocked(&db, &other).await;
    sqlx::raw_sql("commit").execute(&uncommitted).await.unwrap();
    assert!(other.await.unwrap().unwrap().is_empty());
    assert_snapshot!(dump(&db).await, @"first queued lease=0 charged=0/3 interruptions=0/3");
    let earlier = queue::find_earlier_request(&db, given::OWNER, "k")
        .await
        .unwrap();
    assert_eq!(earlier.unwrap().job_id, id);
}

#[tokio::test]
async fn a_submit_wakes_a_listening_worker() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let listener = WorkerListener::start(db.clone());
    listener.queued(Duration::from_secs(30)).await; // the listener is connected now
    let enqueuer = Enqueuer::start(db.clone(), &CONFIG);
    enqueuer.submit(given::job(&model, "cat")).await.unwrap();
    let began = Instant::now();
    listener.queued(Duration::from_secs(30)).await;
    assert!(began.elapsed() < Duration::from_secs(20), "not woken");
}

#[tokio::test]
async fn a_listener_is_woken_after_a_lost_connection() {
    let db = given::database().await;
    let listener = WorkerListener::start(db.clone());
    listener.queued(Duration::from_secs(30)).await;
    let cut: i64 = sqlx::query_scalar(
        "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and query ilike 'listen%'",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    assert_eq!(cut, 1);
    let began = Instant::now();
    listener.queued(Duration::from_secs(30)).await;
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "a reconnect must wake the worker"
    );
}
