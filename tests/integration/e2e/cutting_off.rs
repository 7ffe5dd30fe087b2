//! Workers that vanish, stall or are told to go: no job is lost, none is charged, none is done twice.

use std::time::Duration;

use local::Signal;
use serde_json::Value;
use sqlx::PgPool;
use tests::{Stack, eventually, fixtures, stack::Running};

const JOBS: usize = 80;
const SHORT_LEASE: (&str, &str) = ("DARKROOM_LEASE_SECONDS", "2");

async fn submitted(stack: &Stack) -> Vec<String> {
    let photo = fixtures::photo("ladybird.jpg");
    let mut ids = Vec::new();
    for _ in 0..JOBS {
        let job = stack.client.submit("", photo.clone()).await;
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    ids
}

async fn running(db: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from live_jobs where state = 'running'")
        .fetch_one(db)
        .await
        .unwrap()
}

/// Freezes the worker at a moment when it holds jobs.
async fn frozen_in_mid_job(stack: &Stack, worker: &Running) {
    eventually(Duration::from_mins(1), "the worker holds jobs", || async {
        if running(&stack.db).await == 0 {
            return None;
        }
        worker.signal(Signal::SIGSTOP);
        if running(&stack.db).await > 0 {
            return Some(());
        }
        worker.signal(Signal::SIGCONT);
        None
    })
    .await;
}

async fn all_succeeded(stack: &Stack, ids: &[String]) -> Vec<Value> {
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
async fn the_jobs_of_a_killed_worker_are_done_by_another() {
    let stack = Stack::with_models().await;
    let ids = submitted(&stack).await;
    let doomed = stack.worker("doomed", &[SHORT_LEASE]).await;
    frozen_in_mid_job(&stack, &doomed).await;
    let held = running(&stack.db).await;
    doomed.kill().await;
    let _heir = stack.worker("heir", &[]).await;
    let jobs = all_succeeded(&stack, &ids).await;
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

/// It slept for longer than its lease: what it held is others' now, and what it then says is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_up_late_changes_nothing_and_works_on_under_a_new_lease() {
    let stack = Stack::with_models().await;
    let ids = submitted(&stack).await;
    let sleeper = stack.worker("sleeper", &[SHORT_LEASE]).await;
    frozen_in_mid_job(&stack, &sleeper).await;
    let _other = stack.worker("other", &[]).await;
    let before = all_succeeded(&stack, &ids).await;
    assert!(outcomes(&before).contains(&"lost"), "it held jobs");
    sleeper.signal(Signal::SIGCONT);
    eventually(Duration::from_mins(1), "it registers anew", || async {
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
        assert_eq!(&after, job, "terminal is final");
    }
    assert!(sleeper.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_go_gives_its_jobs_back_and_ends_well() {
    let stack = Stack::with_models().await;
    let ids = submitted(&stack).await;
    let leaver = stack
        .worker("leaver", &[("DARKROOM_DRAIN_SECONDS", "0.1")])
        .await;
    frozen_in_mid_job(&stack, &leaver).await;
    leaver.signal(Signal::SIGTERM);
    leaver.signal(Signal::SIGCONT);
    let status = leaver
        .wait_for(Duration::from_secs(25))
        .await
        .expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(
        running(&stack.db).await,
        0,
        "all is given back before it ends"
    );
    let ended: bool = sqlx::query_scalar("select bool_and(ended_at is not null) from workers")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert!(ended, "it signed off");
    let _heir = stack.worker("heir", &[]).await;
    let jobs = all_succeeded(&stack, &ids).await;
    let outcomes = outcomes(&jobs);
    assert!(
        outcomes
            .iter()
            .all(|outcome| ["released", "succeeded"].contains(outcome)),
        "{outcomes:?}"
    );
    assert!(jobs.iter().all(|job| job["attempts"]["interruptions"] == 0));
}

/// I16.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_that_is_told_to_go_ends_well_and_takes_nothing_more() {
    let stack = Stack::with_models().await;
    let leaver = stack.worker("leaver", &[]).await;
    leaver.signal(Signal::SIGTERM);
    let status = leaver
        .wait_for(Duration::from_secs(20))
        .await
        .expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{status}");
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    assert_eq!(job["status"], "queued");
    let _heir = stack.worker("heir", &[]).await;
    stack.client.ended(job["id"].as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_while_the_api_is_away() {
    let mut stack = Stack::with_models().await;
    let ids = submitted(&stack).await;
    let _worker = stack.worker("w", &[]).await;
    stack.replace_killed_api().await;
    all_succeeded(&stack, &ids).await;
}
