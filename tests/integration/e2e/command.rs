//! The command `darkroom`, as a client would type it.

use tests::{Stack, fixtures};

fn path(photo: &str) -> String {
    let path = fixtures::folder().join("photos").join(photo);
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_waits_and_shows_what_came_of_each_image() {
    let stack = Stack::with_models().await;
    let _worker = stack.worker("w", &[]).await;
    let (ladybird, coffee) = (path("ladybird.jpg"), path("coffee.jpg"));
    let run = stack
        .command(&["submit", "--wait", "--param", "top_k=2", &ladybird, &coffee])
        .await;
    let (out, log) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert_eq!(run.status.code(), Some(0), "{out}{log}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(
        lines[0].contains("ladybug") && lines[0].contains("succeeded"),
        "{out}"
    );
    assert!(lines[1].contains("espresso"), "{out}");

    let id = lines[0].split('\t').next().unwrap();
    let run = stack.command(&["get", id]).await;
    assert_eq!(run.status.code(), Some(0));
    let page = String::from_utf8_lossy(&run.stdout);
    assert!(
        page.contains("succeeded") && page.contains("ladybug"),
        "{page}"
    );
    let run = stack.command(&["get", "--json", id]).await;
    let job: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(job["id"], id);
}

#[tokio::test]
async fn submit_without_waiting_prints_ids() {
    let stack = Stack::without_workers().await;
    let run = stack.command(&["submit", &path("cat.jpg")]).await;
    assert_eq!(
        run.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let out = String::from_utf8(run.stdout).unwrap();
    assert_eq!(stack.client.job(out.trim()).await["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_failed_shows_in_the_exit_code() {
    let stack = Stack::with_models().await;
    let _worker = stack.worker("w", &[]).await;
    let torn = fixtures::folder().join("bad/truncated.jpg");
    let run = stack
        .command(&["submit", "--wait", torn.to_str().unwrap()])
        .await;
    assert_eq!(
        run.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[tokio::test]
async fn wrong_usage_is_told_apart_from_a_service_that_is_away() {
    let stack = Stack::without_workers().await;
    assert_eq!(stack.command(&["submit"]).await.status.code(), Some(2));
    assert_eq!(
        stack
            .command(&["submit", "/no/such/file.jpg"])
            .await
            .status
            .code(),
        Some(2)
    );
    stack.api.kill().await;
    assert_eq!(
        stack
            .command(&["submit", &path("cat.jpg")])
            .await
            .status
            .code(),
        Some(3)
    );
}

#[tokio::test]
async fn models_list_names_what_there_is() {
    let stack = Stack::without_workers().await;
    let run = stack.command(&["models", "list"]).await;
    let out = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(0));
    assert!(
        out.contains(fixtures::CLASSIFIER) && out.contains(fixtures::EMBEDDER),
        "{out}"
    );
}
