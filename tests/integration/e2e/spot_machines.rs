//! Workers whose machine is taken away: they hear of it in time and go at once, and what the metadata service does wrong
//! stops no work.

use std::time::Duration;

use chrono::TimeDelta;
use local::Signal;
use serde_json::json;
use tests::{
    MetadataService, Stack, eventually, fixtures,
    metadata_service::{Cloud, Fault},
    stack::Running,
};

/// Fewer than one worker takes into hand at once.
const JOBS: usize = 20;
const A_WHILE: Duration = Duration::from_mins(1);
const TWO_MINUTES: Duration = Duration::from_mins(2);

async fn submitted(stack: &Stack, count: usize) -> Vec<String> {
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

async fn running(stack: &Stack) -> i64 {
    count(
        stack,
        "select count(*) from live_jobs where state = 'running'",
    )
    .await
}

/// Stops the worker while it holds all jobs.
async fn frozen_with_all_jobs(stack: &Stack, worker: &Running) {
    eventually(A_WHILE, "the worker holds jobs", || async {
        (running(stack).await > 0).then_some(())
    })
    .await;
    worker.signal(Signal::SIGSTOP);
}

async fn ended_well(worker: &Running) {
    let status = worker.wait_for(A_WHILE).await.expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{status}");
}

async fn is_draining(worker: &Running) {
    eventually(A_WHILE, "the worker drains", || async {
        worker
            .log()
            .contains(r#""drain.phase":"Draining""#)
            .then_some(())
    })
    .await;
}

async fn all_succeeded_uncharged(stack: &Stack, ids: &[String]) {
    for id in ids {
        let job = stack.client.ended(id).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
        assert_eq!(job["attempts"]["charged"], 1, "the success: {job:#}");
        assert_eq!(job["attempts"]["interruptions"], 0, "{job:#}");
    }
}

/// The worker holds all jobs when the notice comes, and waits for their model; another one is there, with nothing to do.
async fn jobs_move_on_a_notice(cloud: Cloud) {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(cloud).await;
    let ids = submitted(&stack, JOBS).await;
    let mut models = stack.db.begin().await.unwrap();
    sqlx::query("lock table model_versions in access exclusive mode")
        .execute(&mut *models)
        .await
        .unwrap();
    let all = i64::try_from(JOBS).unwrap();
    let spot = stack.worker("spot", &cloud.env()).await;
    eventually(A_WHILE, "the spot worker holds all jobs", || async {
        (running(&stack).await == all).then_some(())
    })
    .await;
    let _heir = stack.worker("heir", &[]).await;
    cloud.notice(TWO_MINUTES);
    ended_well(&spot).await;
    eventually(A_WHILE, "the other one holds all jobs", || async {
        (running(&stack).await == all).then_some(())
    })
    .await;
    drop(models);
    all_succeeded_uncharged(&stack, &ids).await;
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
    // A second is the promise; the rest is for a busy machine.
    assert!(
        slowest_ms < 5_000.0,
        "claimed elsewhere after {slowest_ms} ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_spot_machine_on_aws_move_at_once() {
    jobs_move_on_a_notice(Cloud::Aws).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_spot_machine_on_gcp_move_at_once() {
    jobs_move_on_a_notice(Cloud::Gcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_spot_machine_on_azure_move_at_once() {
    jobs_move_on_a_notice(Cloud::Azure).await;
}

/// I16. The rows that it would write are locked, so that it stays on its way out for as long as the test wants.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_notice_nothing_is_claimed_even_if_it_is_withdrawn() {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(Cloud::Azure).await;
    submitted(&stack, JOBS).await;
    let [preemption, url] = cloud.env();
    let patient = ("DARKROOM_DRAIN_SECONDS", "60");
    let spot = stack.worker("spot", &[preemption, url, patient]).await;
    frozen_with_all_jobs(&stack, &spot).await;
    let lock = locked(&stack).await;
    cloud.notice(TWO_MINUTES);
    spot.signal(Signal::SIGCONT);
    is_draining(&spot).await;
    let later = submitted(&stack, 5).await;
    cloud.withdraw();
    // Some seconds, in which it would have claimed.
    cloud.wait_for_requests(3).await;
    eventually(A_WHILE, "it knows that it is not needed to go", || async {
        spot.log().contains("withdrawn").then_some(())
    })
    .await;
    assert!(spot.is_running(), "it waits for what it wants to write");
    for id in &later {
        let job = stack.client.job(id).await;
        assert_eq!(job["status"], "queued", "{job:#}");
        assert_eq!(job["attempts"]["items"], json!([]), "{job:#}");
    }
    drop(lock);
    ended_well(&spot).await;
    assert_eq!(running(&stack).await, 0, "all is given back");
    let charged = "select count(*) from attempts where charged or outcome <> 'released'";
    assert_eq!(count(&stack, charged).await, 0);
}

/// A transaction under which no outcome of a running job can be written.
async fn locked(stack: &Stack) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("select from live_jobs where state = 'running' for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    lock
}

/// I17: the service's clock and this machine's are ten minutes apart, either way, and both notices are cut short.
async fn goes_in_time_however_the_clocks_stand(ahead: TimeDelta) {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(Cloud::Aws).await;
    cloud.clock_ahead(ahead);
    submitted(&stack, JOBS).await;
    let [preemption, url] = cloud.env();
    // As long as the machine would be there.
    let patient = ("DARKROOM_DRAIN_SECONDS", "110");
    let spot = stack.worker("spot", &[preemption, url, patient]).await;
    frozen_with_all_jobs(&stack, &spot).await;
    let _lock = locked(&stack).await;
    cloud.notice(TWO_MINUTES);
    spot.signal(Signal::SIGCONT);
    is_draining(&spot).await;
    cloud.wait_for_requests(2).await;
    assert!(
        spot.is_running(),
        "two minutes are left to write what it holds"
    );
    cloud.notice(Duration::from_secs(5));
    let status = spot.wait_for(Duration::from_secs(30)).await;
    assert_eq!(status.expect("it goes in time").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_cut_short_is_kept_by_a_clock_that_runs_behind() {
    goes_in_time_however_the_clocks_stand(TimeDelta::minutes(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_cut_short_is_kept_by_a_clock_that_runs_ahead() {
    goes_in_time_however_the_clocks_stand(TimeDelta::minutes(-10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_advised_to_move_finishes_what_it_has_and_claims_no_more() {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(Cloud::Aws).await;
    submitted(&stack, JOBS).await;
    let [preemption, url] = cloud.env();
    // Ten claims for all of them.
    let few = ("DARKROOM_CLAIM_AHEAD", "4");
    let spot = stack.worker("spot", &[preemption, url, few]).await;
    frozen_with_all_jobs(&stack, &spot).await;
    let lock = locked(&stack).await;
    cloud.advise();
    spot.signal(Signal::SIGCONT);
    eventually(A_WHILE, "the worker finishes", || async {
        let finishing = r#""drain.phase":"Finishing""#;
        spot.log().contains(finishing).then_some(())
    })
    .await;
    drop(lock);
    ended_well(&spot).await;
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
    let interrupted = count(&stack, "select count(*) from attempts").await;
    assert_eq!(interrupted, 0, "nothing was given back");
    assert!(succeeded > 0, "it finished what it had");
    assert_eq!(succeeded + queued, i64::try_from(JOBS).unwrap());
    assert!(
        succeeded <= 4,
        "nothing was claimed after the advice: {succeeded}"
    );
}

/// Its orchestrator starts it again and again, on a machine that is about to go.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_on_a_doomed_machine_claims_nothing() {
    let stack = Stack::with_models().await;
    let cloud = MetadataService::start(Cloud::Gcp).await;
    cloud.notice(Duration::from_secs(30));
    let ids = submitted(&stack, 1).await;
    let spot = stack.spawn_worker("spot", &cloud.env());
    ended_well(&spot).await;
    let job = stack.client.job(&ids[0]).await;
    assert_eq!(job["status"], "queued", "{job:#}");
    assert_eq!(job["attempts"]["items"], json!([]), "{job:#}");
}

/// Works through the faults, one after the other, then takes the notice of a service that behaves again.
async fn works_on_while_the_service(cloud: Cloud, faults: &[Fault]) {
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
        // Enough for any kind of service to have been heard once more.
        cloud.wait_for_requests(4).await;
    }
    let told = spot
        .log()
        .matches("the metadata service misbehaves")
        .count();
    assert_eq!(told, faults.len(), "each once");
    let memory = spot.memory_peak_mib();
    assert!(memory < 1500, "{memory} MiB");
    cloud.notice(TWO_MINUTES);
    ended_well(&spot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_aws_that_misbehaves_stops_no_work() {
    let faults = [Fault::Unauthorized, Fault::Hangs, Fault::Floods];
    works_on_while_the_service(Cloud::Aws, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_gcp_that_misbehaves_stops_no_work() {
    works_on_while_the_service(Cloud::Gcp, &[Fault::InternalError, Fault::Noise]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_azure_that_misbehaves_stops_no_work() {
    works_on_while_the_service(Cloud::Azure, &[Fault::Garbage, Fault::Drips]).await;
}

/// `auto`, wherever it is: it finds out by itself, and takes the notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finds_out_by_itself_which_cloud_it_is_in() {
    let stack = Stack::with_models().await;
    for cloud in [Cloud::Aws, Cloud::Gcp, Cloud::Azure] {
        let service = MetadataService::start(cloud).await;
        let auto = ("DARKROOM_PREEMPTION", "auto");
        let [_, url] = service.env();
        let worker = stack.worker(&format!("{cloud:?}"), &[auto, url]).await;
        eventually(A_WHILE, "it watches", || async {
            worker
                .log()
                .contains("watching for spot notices")
                .then_some(())
        })
        .await;
        service.notice(TWO_MINUTES);
        ended_well(&worker).await;
        service.wait_until_notice_is_read().await;
    }
}

/// A machine that goes without a word: its jobs come back when its lease has run out.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_machine_that_goes_without_notice_move_when_its_lease_is_over() {
    let stack = Stack::with_models().await;
    let ids = submitted(&stack, JOBS).await;
    let lease = ("DARKROOM_LEASE_SECONDS", "2");
    let doomed = stack.worker("doomed", &[lease]).await;
    frozen_with_all_jobs(&stack, &doomed).await;
    let held = running(&stack).await;
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
        assert_eq!(job["attempts"]["charged"], 1, "the success: {job:#}");
    }
    let (lost, charged, rescued_at): (i64, i64, f64) = sqlx::query_as(
        "select count(*), count(*) filter (where charged), max(extract(epoch from ended_at))::float8
         from attempts where outcome = 'lost'",
    )
    .fetch_one(&*stack.db)
    .await
    .unwrap();
    let after = rescued_at - renewed_at;
    println!("{lost} jobs were back {after:.1} s after the last sign of life, with a lease of 2 s");
    assert_eq!((lost, charged), (held, 0));
    assert!(
        after < 2.0 + 3.0 + 5.0,
        "{after} s; 5 of the bound are for a busy machine"
    );
}
