//! A worker loads a pushed version before jobs and aliases may name it.

use std::{path::Path, time::Duration};

use image::{Rgb, RgbImage};
use jobs::{
    keys::Scope,
    models::{self, ModelFolder, VersionState},
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Stack, client::send, eventually, fixtures, given, scene::png};

const LIMIT: Duration = Duration::from_mins(1);
const SHORT_LEASE: (&str, &str) = ("DARKROOM_LEASE_SECONDS", "2");

/// A copy of the model `brightness` with another license, and so another digest.
fn another_version() -> TempDir {
    folder_of("brightness", |manifest| manifest["license"] = json!("none"))
}

/// A version of `brightness` whose module gives six numbers, where the task wants one. It loads as TorchScript, so only a worker
/// finds out.
fn broken_version() -> TempDir {
    folder_of("tiles", |manifest| {
        manifest["name"] = json!("brightness");
        manifest["task"] = json!("regress");
    })
}

fn folder_of(fixture: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures::folder().join("tasks").join(fixture);
    for file in std::fs::read_dir(source).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let mut manifest = fixtures::json(&format!("tasks/{fixture}/model.json"));
    change(&mut manifest);
    std::fs::write(folder.path().join("model.json"), manifest.to_string()).unwrap();
    folder
}

/// A stack with version 1 of `brightness`, without a worker.
async fn stack() -> Stack {
    let stack = Stack::bare(&[]).await;
    stack.push("tasks/brightness").await;
    stack
}

/// Pushes a version that wants the alias `default`, and returns its state at once.
async fn push(stack: &Stack, folder: &Path) -> VersionState {
    let folder = ModelFolder::read(folder).unwrap();
    let pushed = models::push(&stack.db, &stack.store, &folder, Some("default"), true).await;
    pushed.unwrap().state
}

/// The newest version, as operators see it.
async fn newest(stack: &Stack) -> Value {
    let versions = stack.client.get("/v1/models/brightness/versions").await;
    versions.json()["data"][0].clone()
}

async fn decided(stack: &Stack) -> Value {
    eventually(LIMIT, "a verdict", || async {
        let newest = newest(stack).await;
        (newest["state"] != "validating").then_some(newest)
    })
    .await
}

fn white() -> Vec<u8> {
    png(&RgbImage::from_pixel(8, 8, Rgb([255; 3])))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_gets_its_alias_once_a_worker_has_loaded_it() {
    let stack = stack().await;
    let folder = another_version();
    assert_eq!(push(&stack, folder.path()).await, VersionState::Validating);
    let waiting = newest(&stack).await;
    assert_eq!(waiting["aliases"], json!([]));
    assert_eq!(waiting["alias_wanted"], "default");
    let refused = stack
        .client
        .post_job("?model=brightness:2", "image/png", white())
        .await;
    let problem = refused.problem(404, "unknown_model");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("brightness:2 takes no jobs yet"),
        "{detail}"
    );
    assert_eq!(
        problem["retryable"], true,
        "the version may be ready in a moment"
    );
    let before = stack.client.submit("?model=brightness", white()).await;
    assert_eq!(before["resolved_model"]["version"], 1);

    let _worker = stack.worker("w", &[]).await;
    let ready = decided(&stack).await;
    assert_eq!(ready["state"], "ready", "{ready:#}");
    assert_eq!(ready["aliases"], json!(["default"]));
    assert_eq!(ready["state_worker"], "w");
    let job = stack.client.predicted("?model=brightness", white()).await;
    assert_eq!(job["resolved_model"]["version"], 2);
    let again = push(&stack, folder.path()).await;
    assert_eq!(
        again,
        VersionState::Ready,
        "a ready version is not tried again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_rejected_with_its_cause_and_its_alias_stays() {
    let stack = stack().await;
    let worker = stack.worker("w", &[]).await;
    let folder = broken_version();
    let path = folder.path().to_str().unwrap();
    let pushed = stack
        .command(&["models", "push", path, "--alias", "default"])
        .await;
    assert_eq!(pushed.status.code(), Some(4), "{pushed:?}");
    let told = String::from_utf8(pushed.stderr).unwrap();
    assert!(
        told.contains("brightness:2 was rejected by the worker w"),
        "{told}"
    );

    let rejected = newest(&stack).await;
    assert_eq!(rejected["state"], "rejected");
    assert_eq!(rejected["aliases"], json!([]));
    let cause = rejected["state_cause"].as_str().unwrap();
    assert!(told.contains(cause), "{told}\nhas not: {cause}");
    assert_eq!(rejected["load_error"]["cause"], cause);
    let shown = stack.command(&["models", "show", "brightness"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(cause), "{shown}");

    // Causes are for operators.
    let reader = stack.client_of(given::OWNER, &[Scope::Read]).await;
    let versions = reader.get("/v1/models/brightness/versions").await.json();
    assert_eq!(versions["data"][0]["state"], "rejected");
    for hidden in ["state_cause", "state_worker", "load_error"] {
        assert_eq!(versions["data"][0][hidden], Value::Null, "{hidden}");
    }
    let refused = stack
        .client
        .post_job("?model=brightness:2", "image/png", white())
        .await;
    let problem = refused.problem(404, "unknown_model");
    assert!(!problem.to_string().contains(cause));
    assert_eq!(problem["retryable"], false);
    let path = "/v1/models/brightness/aliases/default";
    let alias = stack.client.request(Method::PUT, path);
    let alias = send(alias.json(&json!({"version": 2}))).await;
    alias.problem_at(422, "invalid_params", "/version");
    let job = stack.client.predicted("?model=brightness", white()).await;
    assert_eq!(job["resolved_model"]["version"], 1);
    assert!(worker.is_running());

    assert_eq!(
        push(&stack, folder.path()).await,
        VersionState::Validating,
        "a rejected version is tried again"
    );
    assert_eq!(decided(&stack).await["state"], "rejected");
}

/// The package in the folder fits only the manifest before the change of `mean`.
#[cfg(target_arch = "x86_64")]
#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_no_longer_fits_its_manifest_is_a_warning_of_the_push_and_of_the_model() {
    if !(std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")) {
        eprintln!("this CPU cannot run the package: this test tests nothing");
        return;
    }
    let stack = Stack::bare(&[]).await;
    let _worker = stack.worker("w", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    for file in ["model.pt", "cpu-avx2.pt2"] {
        let source = fixtures::folder().join("aoti").join(file);
        std::fs::copy(source, folder.path().join(file)).unwrap();
    }
    let mut manifest = fixtures::json("aoti/model.json");
    manifest["input"]["mean"] = json!([0, 0, 0]);
    std::fs::write(folder.path().join("model.json"), manifest.to_string()).unwrap();

    let path = folder.path().to_str().unwrap();
    let pushed = stack.command(&["models", "push", path]).await;
    assert_eq!(pushed.status.code(), Some(0), "{pushed:?}");
    let told = String::from_utf8(pushed.stderr).unwrap();
    let refused = "runs model.pt because cpu-avx2.pt2 cannot be used: ";
    let warning = format!("warning: compiled:1 on the worker w: {refused}");
    assert!(told.contains(&warning), "{told}");
    assert!(told.contains("`darkroom models compile`"), "{told}");

    let loaded = eventually(LIMIT, "the worker reports the model", || async {
        let workers = stack.client.get("/v1/workers").await.json();
        let loaded = workers["data"][0]["loaded"][0].clone();
        loaded.is_object().then_some(loaded)
    })
    .await;
    assert_eq!(loaded["artifact"], "model.pt");
    let warning = loaded["warning"].as_str().unwrap();
    assert!(warning.starts_with(refused), "{warning}");
    let versions = stack.client.get("/v1/models/compiled/versions").await;
    assert_eq!(versions.json()["data"][0]["state_cause"], warning);
}

/// Holds verdicts back until the advisory lock 20 is free.
const HOLD_VERDICTS: &str = "
    create function hold_verdicts() returns trigger language plpgsql as $$
    begin
        perform pg_advisory_xact_lock(20);
        return new;
    end $$;
    create trigger hold_verdicts before update on model_versions for each row
        when (old.state = 'validating' and new.state = 'ready') execute function hold_verdicts();";

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_tries_the_version_of_a_killed_worker() {
    let stack = stack().await;
    sqlx::raw_sql(HOLD_VERDICTS)
        .execute(&**stack.db)
        .await
        .unwrap();
    let mut holder = stack.db.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(20)")
        .execute(&mut *holder)
        .await
        .unwrap();
    let folder = another_version();
    push(&stack, folder.path()).await;
    let doomed = stack.worker("doomed", &[SHORT_LEASE]).await;
    // The worker has loaded the version, and waits to write its verdict.
    let waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'advisory'";
    let pid: i32 = eventually(LIMIT, "a verdict is held back", || async {
        let waiting = sqlx::query_scalar(waiting).fetch_optional(&**stack.db);
        waiting.await.unwrap()
    })
    .await;
    doomed.kill().await;
    sqlx::query("select pg_terminate_backend($1)")
        .bind(pid)
        .execute(&**stack.db)
        .await
        .unwrap();
    eventually(LIMIT, "the statement has ended", || async {
        let backend = sqlx::query("select from pg_stat_activity where pid = $1").bind(pid);
        let backend = backend.fetch_optional(&**stack.db).await.unwrap();
        backend.is_none().then_some(())
    })
    .await;
    holder.rollback().await.unwrap();
    assert_eq!(newest(&stack).await["state"], "validating");

    let _heir = stack.worker("heir", &[]).await;
    let ready = decided(&stack).await;
    assert_eq!(ready["state"], "ready", "{ready:#}");
    assert_eq!(ready["state_worker"], "heir");
    assert_eq!(ready["aliases"], json!(["default"]));
    let charged: i16 =
        sqlx::query_scalar("select trial_attempts from model_versions where version = 2")
            .fetch_one(&**stack.db)
            .await
            .unwrap();
    assert_eq!(charged, 1, "the killed worker counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_trials_leaves_them_to_others() {
    let stack = stack().await;
    let worker = stack.worker("w", &[("DARKROOM_NO_TRIALS", "true")]).await;
    let folder = another_version();
    push(&stack, folder.path()).await;
    // Its other work goes on, after the wake-up for the trial.
    stack.client.predicted("?model=brightness", white()).await;
    assert_eq!(newest(&stack).await["state"], "validating");
    assert!(!worker.log().contains("a trial ended"));
    let _other = stack.worker("other", &[]).await;
    assert_eq!(decided(&stack).await["state_worker"], "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetched_version_is_loaded_without_a_job() {
    let stack = stack().await;
    let _worker = stack.worker("w", &[]).await;
    let prefetched = stack.command(&["models", "prefetch", "brightness:1"]).await;
    assert_eq!(prefetched.status.code(), Some(0), "{prefetched:?}");
    let told = String::from_utf8(prefetched.stdout).unwrap();
    assert_eq!(told, "brightness:1 is loaded by 1 of 1 workers\n");
    let workers = stack.client.get("/v1/workers").await.json();
    assert_eq!(workers["data"][0]["loaded"][0]["model"], "brightness:1");
    let unknown = stack.command(&["models", "prefetch", "brightness:2"]).await;
    assert_eq!(unknown.status.code(), Some(5), "{unknown:?}");
}
