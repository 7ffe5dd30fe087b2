//! `darkroom batch …`. The test itself plays the worker.

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::{Problem, ProblemCode};
use serde_json::{Value, json};
use tests::{Stack, fixtures, given};

use super::{document, log, out, says};

/// A file of lines: one for each photo, and one that is none.
fn lines(photos: &[&str]) -> tempfile::NamedTempFile {
    let line = |photo: &&str| {
        let data = STANDARD.encode(fixtures::photo(photo));
        json!({"custom_id": photo, "image": {"data": data}}).to_string() + "\n"
    };
    let lines: String = photos.iter().map(line).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines + "not JSON\n").unwrap();
    file
}

async fn one_succeeds(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let done = tests::settling::complete(&stack.db, &[held.completion("cat")]).await;
    assert_eq!(done.unwrap().len(), 1);
}

async fn one_fails(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let torn = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    tests::settling::fail(&stack.db, &[(held.lease(), torn)])
        .await
        .unwrap();
}

/// The batch that a page is about.
fn first_word(page: &str) -> &str {
    page.split_whitespace().next().unwrap()
}

#[tokio::test]
async fn a_file_is_one_batch_until_another_is_asked_for() {
    let stack = Stack::without_workers().await;
    let file = lines(&["cat.jpg", "coffee.jpg"]);
    let path = file.path().to_str().unwrap();
    let run = stack.command(&["batch", "create", path]).await;
    assert_eq!(run.status.code(), Some(0), "{}", log(&run));
    let page = out(&run);
    assert!(page.contains("lines    3: 2 queued, 1 refused"), "{page}");
    let id = first_word(&page);
    assert!(log(&run).contains(&format!("batch results {id}")));
    let same = says(&stack, 0, &["batch", "create", path]).await;
    assert_eq!(first_word(&same), id);
    let other = document(&stack, 0, &["batch", "create", "--again", path]).await;
    assert_ne!(other["id"], id);
    assert_eq!(other["counts"]["queued"], 2);
}

#[tokio::test]
async fn a_batch_is_followed_to_its_end_and_its_results_are_lines() {
    let stack = Stack::without_workers().await;
    let file = lines(&["cat.jpg", "coffee.jpg", "rocket.jpg"]);
    let path = file.path().to_str().unwrap().to_owned();
    let page = says(&stack, 0, &["batch", "create", &path]).await;
    let id = first_word(&page);
    one_fails(&stack).await;
    one_succeeds(&stack).await;
    assert_eq!(
        document(&stack, 0, &["batch", "get", id]).await["status"],
        "running"
    );
    let waiting = ["batch", "create", "--wait", &path];
    let (waited, ()) = tokio::join!(says(&stack, 1, &waiting), one_succeeds(&stack));
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
        let results = says(&stack, 0, &args).await;
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
    says(&stack, 1, &["batch", "get", id]).await;
}

#[tokio::test]
async fn a_batch_is_canceled_and_what_failed_of_it_runs_again() {
    let stack = Stack::without_workers().await;
    let file = lines(&["cat.jpg", "coffee.jpg"]);
    let page = says(
        &stack,
        0,
        &["batch", "create", file.path().to_str().unwrap()],
    )
    .await;
    let id = first_word(&page);
    one_fails(&stack).await;
    for _ in 0..2 {
        let canceled = document(&stack, 0, &["batch", "cancel", id]).await;
        assert_eq!(canceled["status"], "canceled");
    }
    let again = says(&stack, 0, &["batch", "retry-failed", id]).await;
    assert!(again.starts_with(&format!("{id}  running\n")), "{again}");
    assert!(again.contains("1 queued, 1 canceled"), "{again}");
}

#[tokio::test]
async fn what_is_no_batch_is_told_by_the_exit_code() {
    let stack = Stack::without_workers().await;
    says(&stack, 2, &["batch", "create", "/no/such/file"]).await;
    let empty = tempfile::NamedTempFile::new().unwrap();
    says(
        &stack,
        4,
        &["batch", "create", empty.path().to_str().unwrap()],
    )
    .await;
    let nobody = "batch_0198f3c2a1b47d1e8c55a0f3d2e1b4c7";
    for verb in ["get", "results", "cancel", "retry-failed"] {
        says(&stack, 5, &["batch", verb, nobody]).await;
        says(&stack, 2, &["batch", verb, "../jobs"]).await;
    }
}
