//! Workers that get a shutdown signal, a drain or a cancel, and workers that end by themselves.

use std::time::Duration;

use jobs::{
    JobId,
    queue::{self, CancelOutcome},
};
use local::Signal;
use sqlx::{Postgres, Transaction};
use tests::{Stack, eventually, fixtures, given, stack::Running};

const A_WHILE: Duration = Duration::from_mins(1);
/// Less than a third of the lease: the next regular heartbeat comes later.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn submit_jobs(stack: &Stack, count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
        ids.push(job["id"].as_str().unwrap().parse().unwrap());
    }
    ids
}

async fn count(stack: &Stack, of: &'static str) -> i64 {
    sqlx::query_scalar(of).fetch_one(&*stack.db).await.unwrap()
}

const RUNNING: &str = "select count(*) from live_jobs where state = 'running'";
const QUEUED: &str = "select count(*) from live_jobs where state = 'queued'";
const SUCCEEDED: &str = "select count(*) from finished_jobs where state = 'succeeded'";
const ATTEMPTS_CHARGED: &str = "select count(*) from attempts where charged";

async fn wait_until_jobs_run(stack: &Stack) {
    eventually(A_WHILE, "the worker holds jobs", || async {
        (count(stack, RUNNING).await > 0).then_some(())
    })
    .await;
}

/// Opens a transaction that locks `model_versions`: until it ends, no worker can load a model.
async fn lock_models(stack: &Stack) -> Transaction<'static, Postgres> {
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("lock table model_versions in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    lock
}

async fn assert_exits_with_0(worker: &Running, limit: Duration) {
    let status = worker.wait_for(limit).await.expect("the worker ends");
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_for_a_model_ends_at_once() {
    let stack = Stack::with_models().await;
    submit_jobs(&stack, 3).await;
    let _lock = lock_models(&stack).await;
    let worker = stack.worker("leaver", &[]).await;
    wait_until_jobs_run(&stack).await;
    worker.signal(Signal::SIGTERM);
    assert_exits_with_0(&worker, AT_ONCE).await;
    assert_eq!(count(&stack, QUEUED).await, 3);
    assert_eq!(count(&stack, ATTEMPTS_CHARGED).await, 0);
}

/// A load in libtorch cannot be interrupted. The process must end during the load, and without a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loads_a_model_ends_at_once() {
    let stack = Stack::with_models().await;
    submit_jobs(&stack, 3).await;
    let worker = stack.worker("leaver", &[]).await;
    wait_until_jobs_run(&stack).await;
    worker.signal(Signal::SIGSTOP);
    let loaded = worker.log().contains("model loaded");
    worker.signal(Signal::SIGTERM);
    worker.signal(Signal::SIGCONT);
    assert_exits_with_0(&worker, AT_ONCE).await;
    assert!(!loaded, "the signal must come during the load");
    assert_eq!(count(&stack, RUNNING).await, 0);
    assert_eq!(count(&stack, ATTEMPTS_CHARGED).await, 0);
}

/// Forward passes go on while the process ends. A process that called `exit` crashed every second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_measures_a_model_ends_without_a_crash() {
    let stack = Stack::with_models().await;
    submit_jobs(&stack, 3).await;
    for name in ["first", "second", "third", "fourth"] {
        let worker = stack.worker(name, &[]).await;
        eventually(A_WHILE, "the worker measures its model", || async {
            worker
                .log()
                .contains("optimized for this device")
                .then_some(())
        })
        .await;
        worker.signal(Signal::SIGTERM);
        assert_exits_with_0(&worker, AT_ONCE).await;
    }
}

/// After the first signal the worker waits for jobs on the device, whose results it cannot write here.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_worker_that_still_drains() {
    let stack = Stack::with_models().await;
    submit_jobs(&stack, 40).await;
    let worker = stack
        .worker("leaver", &[("DARKROOM_DRAIN_SECONDS", "60")])
        .await;
    wait_until_jobs_run(&stack).await;
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("select from live_jobs where state = 'running' for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    worker.signal(Signal::SIGTERM);
    eventually(A_WHILE, "the worker drains", || async {
        worker.log().contains("drain.phase").then_some(())
    })
    .await;
    assert!(worker.is_running());
    worker.signal(Signal::SIGTERM);
    assert_exits_with_0(&worker, Duration::from_secs(10)).await;
}

/// The worker gives up a canceled job at once, even in the middle of a stage.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_notices_the_cancel_of_a_running_job_at_once() {
    let stack = Stack::with_models().await;
    let ids = submit_jobs(&stack, 2).await;
    let _lock = lock_models(&stack).await;
    let worker = stack.worker("w", &[]).await;
    eventually(A_WHILE, "the worker holds both jobs", || async {
        (count(&stack, RUNNING).await == 2).then_some(())
    })
    .await;
    let canceled = queue::cancel(&stack.db, ids[0], Some(given::OWNER)).await;
    assert_eq!(canceled.unwrap(), CancelOutcome::Requested);
    let asked_at = std::time::Instant::now();
    eventually(AT_ONCE, "the job is canceled", || async {
        let canceled = "select count(*) from finished_jobs where state = 'canceled'";
        (count(&stack, canceled).await == 1).then_some(())
    })
    .await;
    println!("canceled {:?} after the request", asked_at.elapsed());
    assert_eq!(count(&stack, RUNNING).await, 1, "the other job goes on");
    assert!(worker.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_an_operator_drains_ends_at_once() {
    let stack = Stack::with_models().await;
    let worker = stack.worker("w", &[]).await;
    let drained = "select drain_worker(worker_id) from workers where name = 'w'";
    let drained: String = sqlx::query_scalar(drained)
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(drained, "draining");
    assert_exits_with_0(&worker, AT_ONCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_after_its_maximum_number_of_jobs() {
    let stack = Stack::with_models().await;
    submit_jobs(&stack, 12).await;
    let worker = stack.spawn_worker("w", &[("DARKROOM_MAX_JOBS", "5")]);
    assert_exits_with_0(&worker, A_WHILE).await;
    assert_eq!(count(&stack, SUCCEEDED).await, 5);
    assert_eq!(count(&stack, QUEUED).await, 7);
    let started = "select sum(attempts_started) from live_jobs";
    assert_eq!(count(&stack, started).await, 0, "no other job is claimed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_the_queue_ends_when_no_job_is_left() {
    let stack = Stack::with_models().await;
    submit_jobs(&stack, 12).await;
    let worker = stack.spawn_worker("w", &[("DARKROOM_DRAIN", "true")]);
    assert_exits_with_0(&worker, A_WHILE).await;
    assert_eq!(count(&stack, SUCCEEDED).await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_after_its_maximum_idle_time() {
    let stack = Stack::with_models().await;
    submit_jobs(&stack, 3).await;
    let worker = stack.spawn_worker("w", &[("DARKROOM_MAX_IDLE", "1s")]);
    assert_exits_with_0(&worker, A_WHILE).await;
    assert_eq!(count(&stack, SUCCEEDED).await, 3, "all jobs come first");
}

/// The connection broke after the commit of a claim, before its response: in the database the job runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_claim_got_no_response_is_queued_again_uncharged() {
    let stack = Stack::with_models().await;
    let other = [
        ("DARKROOM_LEASE_SECONDS", "1.5"),
        ("DARKROOM_MODELS", fixtures::EMBEDDER),
    ];
    let _worker = stack.worker("other", &other).await;
    let [job] = submit_jobs(&stack, 1).await[..] else {
        panic!("one job")
    };
    let id = sqlx::query_scalar("select worker_id from workers").fetch_one(&*stack.db);
    let worker = jobs::WorkerId(id.await.unwrap());
    let claimed = tests::claiming::claim(&stack.db, worker, &[], 1)
        .await
        .unwrap();
    assert_eq!(claimed[0].lease.job_id, job);
    eventually(A_WHILE, "the job is queued again", || async {
        (count(&stack, QUEUED).await == 1).then_some(())
    })
    .await;
    let attempts = queue::attempts(&stack.db, job).await.unwrap();
    assert_eq!(attempts[0].outcome.as_deref(), Some("released"));
    assert_eq!(count(&stack, ATTEMPTS_CHARGED).await, 0);
}
