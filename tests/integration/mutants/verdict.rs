//! Runs one test of this binary in its own process and reads the verdict.

use std::time::Duration;

use tokio::{process::Command, time::timeout};

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    /// The test does not exist, could not start, or took longer than [`TEST_TIMEOUT`].
    Inconclusive,
}

const TEST_TIMEOUT: Duration = Duration::from_mins(1);

pub async fn run(test: &str, environment: &[(&str, &str)]) -> (Verdict, String) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs(environment.iter().copied())
        // A snapshot that does not match is expected here and must not be stored for a review.
        .env("INSTA_UPDATE", "no")
        .env("RUST_BACKTRACE", "0")
        .kill_on_drop(true)
        .output();
    let Ok(finished) = timeout(TEST_TIMEOUT, child).await else {
        return (
            Verdict::Inconclusive,
            format!("{test} did not end in {TEST_TIMEOUT:?}"),
        );
    };
    let finished = finished.unwrap();
    let stdout = String::from_utf8_lossy(&finished.stdout).into_owned();
    let output = stdout.clone() + &String::from_utf8_lossy(&finished.stderr);
    tests::database::remove_databases_of_failed_tests(&output).await;
    let verdict = if stdout.contains("test result: ok. 1 passed; 0 failed;") {
        Verdict::Passed
    } else if stdout.contains("test result: FAILED. 0 passed; 1 failed;") {
        Verdict::Failed
    } else {
        Verdict::Inconclusive
    };
    (verdict, output)
}

#[tokio::test]
async fn the_verdict_on_a_missing_test_is_inconclusive() {
    let (verdict, output) = run("queue::fencing::a_lease_is_forever", &[]).await;
    assert_eq!(verdict, Verdict::Inconclusive, "{output}");
}

#[tokio::test]
async fn the_verdict_on_a_test_that_cannot_start_is_inconclusive() {
    let broken = [(tests::database::GUARD_REMOVAL, "drop table no_such_table")];
    let test = "queue::fencing::an_expired_worker_cannot_claim";
    let (verdict, output) = run(test, &broken).await;
    assert_eq!(verdict, Verdict::Inconclusive, "{output}");
    assert!(output.contains("no_such_table"), "{output}");
}
