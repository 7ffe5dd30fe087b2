//! `darkroom batch …`. The tests play the worker.

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::{Problem, ProblemCode};
use serde_json::{Value, json};
use tests::{Stack, fixtures, given};

use super::{expect_exit, expect_json, log, out};

/// A file with one line for each photo, and a last line that is not JSON.
fn file_of_lines(photos: &[&str]) -> tempfile::NamedTempFile {
    let line = |photo: &&str| {
        let data = STANDARD.encode(fixtures::photo(photo));
        json!({"custom_id": photo, "image": {"data": data}}).to_string() + "\n"
    };
    let lines: String = photos.iter().map(line).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines + "not JSON\n").unwrap();
    file
}

async fn complete_next_job(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let done = tests::settling::complete(&stack.db, &[held.completion("cat")]).await;
    assert_eq!(done.unwrap().len(), 1);
}

async fn fail_next_job(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let problem = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    tests::settling::fail(&stack.db, &[(held.lease(), problem)])
        .await
        .unwrap();
}

/// The id of the batch that a command printed.
fn batch_id(page: &str) -> &str {
    page.split_whitespace().next().unwrap()
}

#[tokio::test]
async fn one_file_makes_one_batch_unless_again_is_given() {
    let stack = Stack::without_workers().await;
    let file = file_of_lines(&["cat.jpg", "coffee.jpg"]);
    let path = file.path().to_str().unwrap();
    let run = stack.command(&["batch", "create", path]).await;
    assert_eq!(run.status.code(), Some(0), "{}", log(&run));
    let page = out(&run);
    assert!(page.contains("lines    3: 2 queued, 1 refused"), "{page}");
    let id = batch_id(&page);
    assert!(log(&run).contains(&format!("batch results {id}")));
    let repeated = expect_exit(&stack, 0, &["batch", "create", path]).await;
    assert_eq!(batch_id(&repeated), id);
    let other = expect_json(&stack, 0, &["batch", "create", "--again", path]).await;
    assert_ne!(other["id"], id);
    assert_eq!(other["counts"]["queued"], 2);
}

#[tokio::test]
async fn a_batch_is_followed_to_its_end_and_its_results_are_printed_as_lines() {
    let stack = Stack::without_workers().await;
    let file = file_of_lines(&["cat.jpg", "coffee.jpg", "rocket.jpg"]);
    let path = file.path().to_str().unwrap().to_owned();
    let page = expect_exit(&stack, 0, &["batch", "create", &path]).await;
    let id = batch_id(&page);
    fail_next_job(&stack).await;
    complete_next_job(&stack).await;
    assert_eq!(
        expect_json(&stack, 0, &["batch", "get", id]).await["status"],
        "running"
    );
    let waiting = ["batch", "create", "--wait", &path];
    let (waited, ()) = tokio::join!(expect_exit(&stack, 1, &waiting), complete_next_job(&stack));
    assert!(
        waited.starts_with(&format!("{id}  partly_failed\n")),
        "{waited}"
    );
    assert!(
        waited.contains("2 succeeded, 1 failed, 1 refused"),
        "{waited}"
    );
    for more in [&[][..], &["--wait"]] {
        let args = [&["batch", "results", id], more].concat();
        let results = expect_exit(&stack, 0, &args).await;
        let lines = results.lines();
        let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let statuses: Vec<_> = lines
            .map(|line| (line["custom_id"].clone(), line["job"]["status"].clone()))
            .collect();
        let want = [
            (json!("cat.jpg"), json!("failed")),
            (json!("coffee.jpg"), json!("succeeded")),
            (json!("rocket.jpg"), json!("succeeded")),
            (Value::Null, Value::Null),
        ];
        assert_eq!(statuses, want);
    }
    expect_exit(&stack, 1, &["batch", "get", id]).await;
}

#[tokio::test]
async fn cancel_ends_a_batch_and_retry_failed_runs_its_failed_jobs_again() {
    let stack = Stack::without_workers().await;
    let file = file_of_lines(&["cat.jpg", "coffee.jpg"]);
    let page = expect_exit(
        &stack,
        0,
        &["batch", "create", file.path().to_str().unwrap()],
    )
    .await;
    let id = batch_id(&page);
    fail_next_job(&stack).await;
    for _ in 0..2 {
        let canceled = expect_json(&stack, 0, &["batch", "cancel", id]).await;
        assert_eq!(canceled["status"], "canceled");
    }
    let again = expect_exit(&stack, 0, &["batch", "retry-failed", id]).await;
    assert!(again.starts_with(&format!("{id}  running\n")), "{again}");
    assert!(again.contains("1 queued, 1 canceled"), "{again}");
}

#[tokio::test]
async fn missing_files_and_unknown_batches_set_the_exit_code() {
    let stack = Stack::without_workers().await;
    expect_exit(&stack, 2, &["batch", "create", "/no/such/file"]).await;
    let empty = tempfile::NamedTempFile::new().unwrap();
    expect_exit(
        &stack,
        4,
        &["batch", "create", empty.path().to_str().unwrap()],
    )
    .await;
    let unknown = "batch_0198f3c2a1b47d1e8c55a0f3d2e1b4c7";
    for verb in ["get", "results", "cancel", "retry-failed"] {
        expect_exit(&stack, 5, &["batch", verb, unknown]).await;
        expect_exit(&stack, 2, &["batch", verb, "../jobs"]).await;
    }
}
