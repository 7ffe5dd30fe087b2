//! Child processes: their logs, and how they end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use local::{Program, Signal};

#[tokio::test]
async fn every_line_of_a_log_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("logs/child.log");
    let script = r#"echo '{"level":"INFO"}'; echo 'thread panicked' >&2; printf 'no newline'"#;
    let child = Program::new("/bin/sh")
        .args(["-c", script])
        .spawn(&log)
        .unwrap();
    assert!(child.wait().await.success());
    let log = child.log();
    assert_eq!(log.lines().count(), 3);
    assert!(
        log.lines()
            .all(|line| line.starts_with('{') && line.ends_with('}'))
    );
    assert!(log.contains(r#""message":"thread panicked""#));
}

#[tokio::test]
async fn a_child_that_ignores_the_signal_is_killed_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("child.log");
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let child = Program::new("/bin/sh")
        .args(["-c", script])
        .spawn(&log)
        .unwrap();
    while !child.log().contains("ready") {
        tokio::task::yield_now().await;
    }
    assert!(child.is_running());
    let status = child
        .stop(Signal::SIGTERM, Duration::from_millis(200))
        .await;
    assert!(!status.success() && !child.is_running());
}

#[tokio::test]
async fn the_error_of_a_child_that_ends_early_has_the_end_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("child.log");
    let child = Program::new("/bin/sh").args(["-c", "echo no such setting; exit 3"]);
    let child = child.spawn(&log).unwrap();
    let error = child
        .wait_ready("http://127.0.0.1:1/readyz", Duration::from_secs(5))
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("exit status: 3") && error.contains("no such setting"),
        "{error}"
    );
}

#[tokio::test]
async fn children_outlive_the_thread_that_started_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("child.log");
    let start = move || Program::new("/bin/sleep").arg("60").spawn(&log).unwrap();
    let child = std::thread::spawn(start).join().unwrap();
    assert_eq!(child.wait_for(Duration::from_millis(100)).await, None);
    child.kill().await;
}
