//! Workers on spot machines: a worker hears of a notice in time and ends at once.
//! Faults of the metadata service stop no work.

use std::time::Duration;

use chrono::TimeDelta;
use local::Signal;
use serde_json::json;
use tests::{
    MetadataService, Stack, eventually, fixtures,
    metadata_service::{Cloud, Fault},
    stack::Running,
};

/// Fewer jobs than one worker claims at once.
const JOBS: usize = 20;
const TIMEOUT: Duration = Duration::from_mins(1);
const TWO_MINUTES: Duration = Duration::from_mins(2);

async fn submit_jobs(stack: &Stack, count: usize) -> Vec<String> {
    let photo = fixtures::photo("ladybird.jpg");
    let mut ids = Vec::new();
    for _ in 0..count {
        let job = stack.client.submit("", photo.clone()).await;
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    ids
}

async fn count(stack: &Stack, of: &'static str) -> i64 {
    sqlx::query_scalar(of).fetch_one(&*stack.db).await.unwrap()
}

async fn count_running(stack: &Stack) -> i64 {
    count(
        stack,
        "select count(*) from live_jobs where state = 'running'",
    )
    .await
}

/// Stops the process of the worker as soon as the worker holds jobs.
async fn freeze_with_jobs(stack: &Stack, worker: &Running) {
    eventually(TIMEOUT, "the worker holds jobs", || async {
        (count_running(stack).await > 0).then_some(())
    })
    .await;
    worker.signal(Signal::SIGSTOP);
}

async fn assert_ends_cleanly(worker: &Running) {
    let status = worker
        .wait_for(TIMEOUT)
        .await
        .expect("the worker ends in time");
    assert_eq!(status.code(), Some(0), "{status}");
}

async fn wait_until_draining(worker: &Running) {
    eventually(TIMEOUT, "the worker drains", || async {
        worker
            .log()
            .contains(r#""drain.phase":"Draining""#)
            .then_some(())
    })
    .await;
}

async fn assert_all_succeeded_without_interruption(stack: &Stack, ids: &[String]) {
    for id in ids {
        let job = stack.client.ended(id).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
        assert_eq!(
            job["attempts"]["charged"], 1,
            "only the success is charged: {job:#}"
        );
        assert_eq!(job["attempts"]["interruptions"], 0, "{job:#}");
    }
}

/// When the notice comes, the spot worker holds all jobs and waits for their model. A second worker is idle.
async fn assert_jobs_move_on_notice(cloud: Cloud) {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(cloud).await;
    let ids = submit_jobs(&stack, JOBS).await;
    let mut model_lock = stack.db.begin().await.unwrap();
    sqlx::query("lock table model_versions in access exclusive mode")
        .execute(&mut *model_lock)
        .await
        .unwrap();
    let all = i64::try_from(JOBS).unwrap();
    let spot = stack.worker("spot", &cloud.env()).await;
    eventually(TIMEOUT, "the spot worker holds all jobs", || async {
        (count_running(&stack).await == all).then_some(())
    })
    .await;
    let _heir = stack.worker("heir", &[]).await;
    cloud.notice(TWO_MINUTES);
    assert_ends_cleanly(&spot).await;
    eventually(TIMEOUT, "the second worker holds all jobs", || async {
        (count_running(&stack).await == all).then_some(())
    })
    .await;
    drop(model_lock);
    assert_all_succeeded_without_interruption(&stack, &ids).await;
    let (released, slowest_ms): (i64, f64) = sqlx::query_as(
        "select count(*), max(extract(epoch from f.claimed_at - a.ended_at) * 1000)::float8
         from attempts a join finished_jobs f using (job_id)
         where a.outcome = 'released' and a.worker = 'spot' and f.worker = 'heir'",
    )
    .fetch_one(&*stack.db)
    .await
    .unwrap();
    println!("{released} jobs given back, the last one claimed elsewhere after {slowest_ms:.0} ms");
    assert_eq!(released, all);
    // The promise is one second. The rest allows for a busy machine.
    assert!(
        slowest_ms < 5_000.0,
        "claimed elsewhere after {slowest_ms} ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_spot_machine_on_aws_move_at_once() {
    assert_jobs_move_on_notice(Cloud::Aws).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_spot_machine_on_gcp_move_at_once() {
    assert_jobs_move_on_notice(Cloud::Gcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_spot_machine_on_azure_move_at_once() {
    assert_jobs_move_on_notice(Cloud::Azure).await;
}

/// I16. The rows that the worker would write are locked, so that the worker drains for as long as the test needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_claims_nothing_after_a_notice_even_a_withdrawn_notice() {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(Cloud::Azure).await;
    submit_jobs(&stack, JOBS).await;
    let [preemption, url] = cloud.env();
    let drain_seconds = ("DARKROOM_DRAIN_SECONDS", "60");
    let spot = stack
        .worker("spot", &[preemption, url, drain_seconds])
        .await;
    freeze_with_jobs(&stack, &spot).await;
    let lock = lock_running_jobs(&stack).await;
    cloud.notice(TWO_MINUTES);
    spot.signal(Signal::SIGCONT);
    wait_until_draining(&spot).await;
    let later_ids = submit_jobs(&stack, 5).await;
    cloud.withdraw();
    // Some seconds: a worker that does not drain would claim now.
    cloud.wait_for_requests(3).await;
    eventually(TIMEOUT, "the worker knows of the withdrawal", || async {
        spot.log().contains("withdrawn").then_some(())
    })
    .await;
    assert!(spot.is_running(), "the worker waits for the locked rows");
    for id in &later_ids {
        let job = stack.client.job(id).await;
        assert_eq!(job["status"], "queued", "{job:#}");
        assert_eq!(job["attempts"]["items"], json!([]), "{job:#}");
    }
    drop(lock);
    assert_ends_cleanly(&spot).await;
    assert_eq!(count_running(&stack).await, 0, "all jobs are given back");
    let charged = "select count(*) from attempts where charged or outcome <> 'released'";
    assert_eq!(count(&stack, charged).await, 0);
}

/// Locks the rows of running jobs, so that no worker can write their outcomes.
async fn lock_running_jobs(stack: &Stack) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("select from live_jobs where state = 'running' for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    lock
}

/// I17: the clock of the metadata service is `ahead` of the worker's clock, and the notice is shortened.
async fn assert_worker_ends_in_time(ahead: TimeDelta) {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(Cloud::Aws).await;
    cloud.clock_ahead(ahead);
    submit_jobs(&stack, JOBS).await;
    let [preemption, url] = cloud.env();
    // Almost as long as the first notice leaves.
    let drain_seconds = ("DARKROOM_DRAIN_SECONDS", "110");
    let spot = stack
        .worker("spot", &[preemption, url, drain_seconds])
        .await;
    freeze_with_jobs(&stack, &spot).await;
    let _lock = lock_running_jobs(&stack).await;
    cloud.notice(TWO_MINUTES);
    spot.signal(Signal::SIGCONT);
    wait_until_draining(&spot).await;
    cloud.wait_for_requests(2).await;
    assert!(
        spot.is_running(),
        "the first notice leaves two minutes for the outcomes"
    );
    cloud.notice(Duration::from_secs(5));
    let status = spot.wait_for(Duration::from_secs(30)).await;
    assert_eq!(status.expect("the worker ends in time").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_clock_is_behind_obeys_a_shortened_notice() {
    assert_worker_ends_in_time(TimeDelta::minutes(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_clock_is_ahead_obeys_a_shortened_notice() {
    assert_worker_ends_in_time(TimeDelta::minutes(-10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advised_worker_finishes_its_jobs_and_claims_no_more() {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(Cloud::Aws).await;
    submit_jobs(&stack, JOBS).await;
    let [preemption, url] = cloud.env();
    // One claim does not take all jobs.
    let claim_ahead = ("DARKROOM_CLAIM_AHEAD", "4");
    let spot = stack.worker("spot", &[preemption, url, claim_ahead]).await;
    freeze_with_jobs(&stack, &spot).await;
    let lock = lock_running_jobs(&stack).await;
    cloud.advise();
    spot.signal(Signal::SIGCONT);
    eventually(TIMEOUT, "the worker finishes", || async {
        let finishing = r#""drain.phase":"Finishing""#;
        spot.log().contains(finishing).then_some(())
    })
    .await;
    drop(lock);
    assert_ends_cleanly(&spot).await;
    let succeeded = count(
        &stack,
        "select count(*) from finished_jobs where state = 'succeeded'",
    )
    .await;
    let queued = count(
        &stack,
        "select count(*) from live_jobs where state = 'queued'",
    )
    .await;
    let ended_attempts = count(&stack, "select count(*) from attempts").await;
    assert_eq!(ended_attempts, 0, "nothing was given back");
    assert!(succeeded > 0, "the worker finished its jobs");
    assert_eq!(succeeded + queued, i64::try_from(JOBS).unwrap());
    assert!(
        succeeded <= 4,
        "nothing was claimed after the advice: {succeeded}"
    );
}

/// An orchestrator may restart a worker on a machine that has its notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_after_the_notice_claims_nothing() {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(Cloud::Gcp).await;
    cloud.notice(Duration::from_secs(30));
    let ids = submit_jobs(&stack, 1).await;
    let spot = stack.spawn_worker("spot", &cloud.env());
    assert_ends_cleanly(&spot).await;
    let job = stack.client.job(&ids[0]).await;
    assert_eq!(job["status"], "queued", "{job:#}");
    assert_eq!(job["attempts"]["items"], json!([]), "{job:#}");
}

/// The worker predicts during each fault. Then the service recovers, and the worker obeys its notice.
async fn assert_faults_stop_no_work(cloud: Cloud, faults: &[Fault]) {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(cloud).await;
    let spot = stack.worker("spot", &cloud.env()).await;
    for fault in faults {
        cloud.misbehave(*fault);
        cloud.wait_for_requests(2).await;
        stack.client.predicted("", fixtures::photo("cat.jpg")).await;
        assert!(!spot.log().contains("drain.phase"), "{fault:?}");
        cloud.behave();
        cloud.forget_tokens();
        // Enough polls for one good answer in every cloud.
        cloud.wait_for_requests(4).await;
    }
    let warnings = spot
        .log()
        .matches("the metadata service misbehaves")
        .count();
    assert_eq!(warnings, faults.len(), "one warning for each fault");
    let memory = spot.memory_peak_mib();
    assert!(memory < 1500, "{memory} MiB");
    cloud.notice(TWO_MINUTES);
    assert_ends_cleanly(&spot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_metadata_service_of_aws_stop_no_work() {
    let faults = [Fault::Unauthorized, Fault::Hangs, Fault::Floods];
    assert_faults_stop_no_work(Cloud::Aws, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_metadata_service_of_gcp_stop_no_work() {
    assert_faults_stop_no_work(Cloud::Gcp, &[Fault::InternalError, Fault::Noise]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_metadata_service_of_azure_stop_no_work() {
    assert_faults_stop_no_work(Cloud::Azure, &[Fault::Garbage, Fault::Drips]).await;
}

/// With `auto` the worker finds its cloud and obeys the notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_detects_its_cloud() {
    let stack = Stack::with_models().await;
    for cloud in [Cloud::Aws, Cloud::Gcp, Cloud::Azure] {
        let service = MetadataService::start(cloud).await;
        let auto = ("DARKROOM_PREEMPTION", "auto");
        let [_, url] = service.env();
        let worker = stack.worker(&format!("{cloud:?}"), &[auto, url]).await;
        eventually(TIMEOUT, "the worker watches for notices", || async {
            worker
                .log()
                .contains("watching for spot notices")
                .then_some(())
        })
        .await;
        service.notice(TWO_MINUTES);
        assert_ends_cleanly(&worker).await;
        service.wait_until_notice_is_read().await;
    }
}

/// A machine vanishes without notice. Its jobs are queued again when the lease of its worker has expired.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_lost_machine_move_when_the_lease_expires() {
    let stack = Stack::with_models().await;
    let ids = submit_jobs(&stack, JOBS).await;
    let lease = ("DARKROOM_LEASE_SECONDS", "2");
    let doomed = stack.worker("doomed", &[lease]).await;
    freeze_with_jobs(&stack, &doomed).await;
    let held = count_running(&stack).await;
    let renewed =
        "select extract(epoch from lease_until)::float8 - 2 from workers where name = 'doomed'";
    let renewed_at: f64 = sqlx::query_scalar(renewed)
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    doomed.kill().await;
    let _heir = stack.worker("heir", &[]).await;
    for id in &ids {
        let job = stack.client.ended(id).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
        assert_eq!(
            job["attempts"]["charged"], 1,
            "only the success is charged: {job:#}"
        );
    }
    let (lost, charged, rescued_at): (i64, i64, f64) = sqlx::query_as(
        "select count(*), count(*) filter (where charged), max(extract(epoch from ended_at))::float8
         from attempts where outcome = 'lost'",
    )
    .fetch_one(&*stack.db)
    .await
    .unwrap();
    let after = rescued_at - renewed_at;
    println!("{lost} jobs were back {after:.1} s after the last heartbeat, with a lease of 2 s");
    assert_eq!((lost, charged), (held, 0));
    assert!(
        after < 2.0 + 3.0 + 5.0,
        "{after} s; 5 s of the limit allow for a busy machine"
    );
}
