//! Workers that are killed, frozen or shut down: no job is lost, completed twice or charged.

use std::time::Duration;

use local::Signal;
use serde_json::Value;
use sqlx::PgPool;
use tests::{Stack, eventually, fixtures, stack::Running};

const JOBS: usize = 80;
const SHORT_LEASE: (&str, &str) = ("DARKROOM_LEASE_SECONDS", "2");

async fn submit_jobs(stack: &Stack) -> Vec<String> {
    let photo = fixtures::photo("ladybird.jpg");
    let mut ids = Vec::new();
    for _ in 0..JOBS {
        let job = stack.client.submit("", photo.clone()).await;
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    ids
}

async fn count_running(db: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from live_jobs where state = 'running'")
        .fetch_one(db)
        .await
        .unwrap()
}

/// Freezes the worker while it holds jobs.
async fn freeze_with_jobs(stack: &Stack, worker: &Running) {
    eventually(Duration::from_mins(1), "the worker holds jobs", || async {
        if count_running(&stack.db).await == 0 {
            return None;
        }
        worker.signal(Signal::SIGSTOP);
        if count_running(&stack.db).await > 0 {
            return Some(());
        }
        worker.signal(Signal::SIGCONT);
        None
    })
    .await;
}

async fn wait_until_all_succeed(stack: &Stack, ids: &[String]) -> Vec<Value> {
    let mut jobs = Vec::new();
    for id in ids {
        let job = stack.client.ended(id).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
        assert_eq!(
            job["attempts"]["charged"], 1,
            "only the success is charged: {job:#}"
        );
        jobs.push(job);
    }
    jobs
}

fn outcomes(jobs: &[Value]) -> Vec<&str> {
    let attempts = jobs
        .iter()
        .flat_map(|job| job["attempts"]["items"].as_array().unwrap());
    attempts
        .map(|attempt| attempt["outcome"].as_str().unwrap_or("running"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_completes_the_jobs_of_a_killed_worker() {
    let stack = Stack::with_models().await;
    let ids = submit_jobs(&stack).await;
    let doomed = stack.worker("doomed", &[SHORT_LEASE]).await;
    freeze_with_jobs(&stack, &doomed).await;
    let held = count_running(&stack.db).await;
    doomed.kill().await;
    let _heir = stack.worker("heir", &[]).await;
    let jobs = wait_until_all_succeed(&stack, &ids).await;
    let lost = jobs
        .iter()
        .filter(|job| job["attempts"]["interruptions"] == 1)
        .count();
    assert_eq!(
        i64::try_from(lost).unwrap(),
        held,
        "each held job was interrupted once"
    );
    for job in jobs
        .iter()
        .filter(|job| job["attempts"]["interruptions"] == 1)
    {
        let attempts = &job["attempts"]["items"];
        assert_eq!(attempts[0]["outcome"], "lost");
        assert_eq!(attempts[0]["worker"], "doomed");
        assert_eq!(attempts[0]["charged"], false);
        assert_eq!(attempts[1]["outcome"], "succeeded");
        assert_eq!(attempts[1]["worker"], "heir");
    }
}

/// The frozen worker resumes after its lease has ended: another worker completed its jobs, so its results are dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_resumes_after_its_lease_changes_no_job_and_registers_again() {
    let stack = Stack::with_models().await;
    let ids = submit_jobs(&stack).await;
    let sleeper = stack.worker("sleeper", &[SHORT_LEASE]).await;
    freeze_with_jobs(&stack, &sleeper).await;
    let _other = stack.worker("other", &[]).await;
    let before = wait_until_all_succeed(&stack, &ids).await;
    assert!(outcomes(&before).contains(&"lost"), "a worker held jobs");
    sleeper.signal(Signal::SIGCONT);
    eventually(Duration::from_mins(1), "a new registration", || async {
        let registrations: i64 =
            sqlx::query_scalar("select count(*) from workers where name = 'sleeper'")
                .fetch_one(&*stack.db)
                .await
                .unwrap();
        (registrations >= 2).then_some(())
    })
    .await;
    for job in &before {
        let after = stack.client.job(job["id"].as_str().unwrap()).await;
        assert_eq!(&after, job, "an ended job does not change");
    }
    assert!(sleeper.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gives_its_jobs_back_on_sigterm_and_exits_with_0() {
    let stack = Stack::with_models().await;
    let ids = submit_jobs(&stack).await;
    let leaver = stack
        .worker("leaver", &[("DARKROOM_DRAIN_SECONDS", "0.1")])
        .await;
    freeze_with_jobs(&stack, &leaver).await;
    leaver.signal(Signal::SIGTERM);
    leaver.signal(Signal::SIGCONT);
    let status = leaver
        .wait_for(Duration::from_secs(25))
        .await
        .expect("the worker ends in time");
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(
        count_running(&stack.db).await,
        0,
        "the worker gives all jobs back before it ends"
    );
    let ended: bool = sqlx::query_scalar("select bool_and(ended_at is not null) from workers")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert!(ended, "the worker recorded its end");
    let _heir = stack.worker("heir", &[]).await;
    let jobs = wait_until_all_succeed(&stack, &ids).await;
    let outcomes = outcomes(&jobs);
    assert!(
        outcomes
            .iter()
            .all(|outcome| ["released", "succeeded"].contains(outcome)),
        "{outcomes:?}"
    );
    assert!(jobs.iter().all(|job| job["attempts"]["interruptions"] == 0));
}

/// Invariant I16.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_exits_with_0_on_sigterm_and_claims_no_more_jobs() {
    let stack = Stack::with_models().await;
    let leaver = stack.worker("leaver", &[]).await;
    leaver.signal(Signal::SIGTERM);
    let status = leaver
        .wait_for(Duration::from_secs(20))
        .await
        .expect("the worker ends in time");
    assert_eq!(status.code(), Some(0), "{status}");
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    assert_eq!(job["status"], "queued");
    let _heir = stack.worker("heir", &[]).await;
    stack.client.ended(job["id"].as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_completed_while_the_api_is_down() {
    let mut stack = Stack::with_models().await;
    let ids = submit_jobs(&stack).await;
    let _worker = stack.worker("w", &[]).await;
    stack.replace_killed_api().await;
    wait_until_all_succeed(&stack, &ids).await;
}
