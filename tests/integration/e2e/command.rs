//! The command `darkroom`, as a user types it.

mod batches;
mod operating;
mod pushing;
mod signing;
mod webhooks;

use std::process::Output;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tests::{Stack, fixtures};

fn path(photo: &str) -> String {
    let path = fixtures::folder().join("photos").join(photo);
    path.to_str().unwrap().to_owned()
}

fn out(run: &Output) -> String {
    String::from_utf8(run.stdout.clone()).unwrap()
}

fn log(run: &Output) -> String {
    String::from_utf8(run.stderr.clone()).unwrap()
}

/// Runs a command, expects this exit code, and returns what the command printed.
async fn expect_exit(stack: &Stack, code: i32, args: &[&str]) -> String {
    let run = stack.command(args).await;
    let (out, log) = (out(&run), log(&run));
    assert_eq!(run.status.code(), Some(code), "{args:?}: {out}{log}");
    out
}

/// Like [`expect_exit`], with `--json`; returns the parsed document.
async fn expect_json(stack: &Stack, code: i32, args: &[&str]) -> Value {
    let args = [args, &["--json"]].concat();
    serde_json::from_str(&expect_exit(stack, code, &args).await).unwrap()
}

/// The first column of a table, without its header.
fn ids(table: &str) -> Vec<String> {
    let lines = table.lines().skip(1);
    lines
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

/// Other people's text must not move the cursor, change the title, or look like lines of the command.
#[tokio::test(flavor = "multi_thread")]
async fn text_of_clients_cannot_steer_the_terminal() {
    let stack = Stack::without_workers().await;
    let hostile = "a\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{7f}\r\u{85}\u{202e}\u{2028}\nnext";
    let job = json!({
        "image": {"data": STANDARD.encode(fixtures::photo("cat.jpg"))},
        "metadata": {"plain": hostile, hostile: "name", "deep": {hostile: [hostile]}},
    });
    let answer = stack.client.post_json("/v1/jobs", &job).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let harmful =
        |c: char| (c.is_control() && c != '\n' && c != '\t') || "\u{202e}\u{2028}".contains(c);
    for args in [
        &["get", &id][..],
        &["get", "--include-attempts", &id],
        &["get", "--json", &id],
        &["explain", &id],
        &["list"],
        &["list", "--json"],
        &["cancel", &id],
    ] {
        let run = stack.command(args).await;
        let printed = out(&run) + &log(&run);
        assert!(
            run.status.success() && !printed.is_empty(),
            "{args:?}: {printed:?}"
        );
        assert!(!printed.contains(harmful), "{args:?}: {printed:?}");
        let forged = printed.lines().any(|line| line.starts_with("next"));
        assert!(!forged, "{args:?}: {printed:?}");
    }
    let page = expect_exit(&stack, 0, &["get", &id]).await;
    assert!(
        page.contains("]0;owned"),
        "the text itself is shown: {page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_with_wait_prints_the_result_of_each_image() {
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
async fn submit_without_wait_prints_job_ids() {
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
async fn a_failed_job_sets_exit_code_1() {
    let stack = Stack::with_models().await;
    let _worker = stack.worker("w", &[]).await;
    let truncated = fixtures::folder().join("bad/truncated.jpg");
    let run = stack
        .command(&["submit", "--wait", truncated.to_str().unwrap()])
        .await;
    assert_eq!(
        run.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[tokio::test]
async fn wrong_usage_exits_with_2_and_an_unreachable_service_with_3() {
    let stack = Stack::without_workers().await;
    assert_eq!(stack.command(&["submit"]).await.status.code(), Some(2));
    let run = stack.command(&["submit", "/no/such/file.jpg"]).await;
    assert_eq!(run.status.code(), Some(2));
    stack.api.kill().await;
    let submit = ["submit", "--patience", "1s", &path("cat.jpg")];
    assert_eq!(stack.command(&submit).await.status.code(), Some(3));
}

#[tokio::test]
async fn a_refused_request_exits_with_4_and_an_unknown_job_with_5() {
    let stack = Stack::without_workers().await;
    let not_an_image = fixtures::folder().join("bad/manifest.json");
    let run = stack
        .command(&["submit", not_an_image.to_str().unwrap()])
        .await;
    assert_eq!(run.status.code(), Some(4));
    let unknown = "job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7";
    for verb in ["get", "wait", "explain", "cancel", "retry", "delete"] {
        let run = stack.command(&[verb, unknown]).await;
        assert_eq!(run.status.code(), Some(5), "{verb}");
    }
    assert_eq!(
        stack.command(&["wait", "job_x"]).await.status.code(),
        Some(2)
    );
}

#[tokio::test]
async fn models_list_prints_every_model() {
    let stack = Stack::without_workers().await;
    let run = stack.command(&["models", "list"]).await;
    let out = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(0));
    assert!(
        out.contains(fixtures::CLASSIFIER) && out.contains(fixtures::EMBEDDER),
        "{out}"
    );
}

#[tokio::test]
async fn a_job_is_listed_explained_canceled_retried_and_deleted() {
    let stack = Stack::without_workers().await;
    let run = stack
        .command(&["submit", "--metadata", "who=me", &path("cat.jpg")])
        .await;
    let id = out(&run).trim().to_owned();
    let listed = stack
        .command(&["list", "--metadata", "who=me", "--after", "1h"])
        .await;
    assert!(out(&listed).starts_with(&format!("{id}\tqueued\t")));
    let nothing = stack.command(&["list", "--status", "failed"]).await;
    assert_eq!(out(&nothing), "");
    let explained = stack.command(&["explain", &id]).await;
    assert!(
        out(&explained).contains("jobs_ahead"),
        "{}",
        out(&explained)
    );
    let verbs = [
        ("cancel", "canceled"),
        ("retry", "queued"),
        ("cancel", "canceled"),
    ];
    for (verb, status) in verbs {
        let run = stack.command(&[verb, &id]).await;
        assert_eq!(out(&run), format!("{id}\t{status}\n"), "{verb}");
    }
    let waited = stack.command(&["wait", &id]).await;
    assert_eq!(waited.status.code(), Some(1));
    assert!(out(&waited).starts_with(&format!("{id}\tcanceled\t")));
    assert_eq!(
        out(&stack.command(&["delete", &id]).await),
        format!("{id}\n")
    );
    assert_eq!(stack.command(&["get", &id]).await.status.code(), Some(5));
}

#[tokio::test]
async fn list_with_all_reads_every_page() {
    let stack = Stack::without_workers().await;
    for photo in [
        "cat.jpg",
        "coffee.jpg",
        "rocket.jpg",
        "ladybird.jpg",
        "pagoda.jpg",
    ] {
        stack.client.submit("", fixtures::photo(photo)).await;
    }
    let page = stack.command(&["list", "--limit", "2"]).await;
    assert_eq!(out(&page).lines().count(), 2);
    let all = stack
        .command(&["list", "--limit", "2", "--all", "--json"])
        .await;
    let mut ids: Vec<String> = out(&all)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn wait_exits_with_6_after_its_timeout_and_the_job_stays_queued() {
    let stack = Stack::without_workers().await;
    let id = out(&stack.command(&["submit", &path("cat.jpg")]).await);
    let run = stack
        .command(&["wait", "--timeout", "50ms", id.trim()])
        .await;
    assert_eq!(run.status.code(), Some(6));
    assert_eq!(stack.client.job(id.trim()).await["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_follows_a_job_to_its_end_and_bench_counts_images() {
    let stack = Stack::with_models().await;
    let id = out(&stack.command(&["submit", &path("cat.jpg")]).await);
    let _worker = stack.worker("w", &[]).await;
    let watched = stack.command(&["watch", id.trim()]).await;
    assert_eq!(watched.status.code(), Some(0));
    let last = out(&watched).lines().last().unwrap().to_owned();
    assert!(last.contains("\tsucceeded\t"), "{last}");
    let bench = [
        "bench",
        "--clients",
        "2",
        "--seconds",
        "1",
        "--json",
        &path("cat.jpg"),
    ];
    let run = stack.command(&bench).await;
    let figures: serde_json::Value = serde_json::from_str(&out(&run)).unwrap();
    assert_eq!(figures["failed"], 0);
    assert!(figures["images"].as_u64().unwrap() >= 2, "{figures}");
    assert!(figures["p99_ms"].as_f64() >= figures["p50_ms"].as_f64());
}

#[tokio::test]
async fn operators_see_workers_and_pause_queues() {
    let stack = Stack::without_workers().await;
    let run = stack.command(&["workers"]).await;
    assert_eq!(run.status.code(), Some(0));
    assert_eq!(
        stack
            .command(&["workers", "drain", "4711"])
            .await
            .status
            .code(),
        Some(5)
    );
    let pause = ["queues", "pause", fixtures::CLASSIFIER, "--why", "tests"];
    assert_eq!(stack.command(&pause).await.status.code(), Some(0));
    let id = out(&stack.command(&["submit", &path("cat.jpg")]).await);
    let explained = stack.command(&["explain", id.trim()]).await;
    assert!(out(&explained).contains("tests"), "{}", out(&explained));
    let resume = ["queues", "resume", fixtures::CLASSIFIER];
    assert_eq!(stack.command(&resume).await.status.code(), Some(0));
    let model = stack
        .command(&["models", "show", fixtures::CLASSIFIER])
        .await;
    assert!(out(&model).contains("sha256:"), "{}", out(&model));
}

#[tokio::test]
async fn completions_name_the_commands() {
    let stack = Stack::without_workers().await;
    let script = stack.command(&["completions", "bash"]).await;
    assert!(out(&script).contains("retry-failed"));
}
