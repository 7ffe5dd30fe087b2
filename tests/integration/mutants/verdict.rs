//! What a test of this binary says when it runs in a process of its own.

use std::time::Duration;

use tokio::{process::Command, time::timeout};

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    /// There is no such test, or it could not begin, or it hangs.
    None,
}

const LONGEST: Duration = Duration::from_mins(1);

pub async fn run(test: &str, environment: &[(&str, &str)]) -> (Verdict, String) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs(environment.iter().copied())
        // A snapshot that does not match is the point: nobody is to review it.
        .env("INSTA_UPDATE", "no")
        .env("RUST_BACKTRACE", "0")
        .kill_on_drop(true)
        .output();
    let Ok(output) = timeout(LONGEST, child).await else {
        return (Verdict::None, format!("{test} did not end in {LONGEST:?}"));
    };
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let printed = said.clone() + &String::from_utf8_lossy(&output.stderr);
    tests::database::remove_databases_of_failed_tests(&printed).await;
    let verdict = if said.contains("test result: ok. 1 passed; 0 failed;") {
        Verdict::Passed
    } else if said.contains("test result: FAILED. 0 passed; 1 failed;") {
        Verdict::Failed
    } else {
        Verdict::None
    };
    (verdict, printed)
}

#[tokio::test]
async fn a_test_that_does_not_exist_has_neither_passed_nor_failed() {
    let (verdict, printed) = run("queue::fencing::a_lease_is_forever", &[]).await;
    assert_eq!(verdict, Verdict::None, "{printed}");
}

#[tokio::test]
async fn a_test_that_cannot_begin_has_neither_passed_nor_failed() {
    let broken = [(tests::database::GUARD_REMOVAL, "drop table no_such_table")];
    let test = "queue::fencing::an_expired_worker_cannot_claim";
    let (verdict, printed) = run(test, &broken).await;
    assert_eq!(verdict, Verdict::None, "{printed}");
    assert!(printed.contains("no_such_table"), "{printed}");
}
