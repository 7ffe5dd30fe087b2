//! Aliases move and versions retire; a job keeps the version with which it was submitted.

use jobs::{Problem, ProblemCode, queue};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Stack, client::send, fixtures, given};

/// The classifier has two versions; `default` names version 1.
async fn stack_with_two_versions() -> Stack {
    let stack = Stack::without_workers().await;
    let manifest = std::fs::read(fixtures::model(fixtures::CLASSIFIER).join("model.json")).unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["source"] = json!("another one");
    sqlx::query(
        "insert into model_versions (model_id, version, digest, task, manifest, files)
         select model_id, 2, sha256(convert_to($2::text, 'UTF8')), 'classify', $2, '{}' from models where name = $1",
    )
    .bind(fixtures::CLASSIFIER)
    .bind(&manifest)
    .execute(&*stack.db)
    .await
    .unwrap();
    stack
}

async fn set_alias(stack: &Stack, alias: &str, version: Value) -> Answer {
    let path = format!("/v1/models/{}/aliases/{alias}", fixtures::CLASSIFIER);
    let request = stack.client.request(Method::PUT, &path);
    send(request.json(&json!({"version": version}))).await
}

async fn retire(stack: &Stack, version: &str) -> Answer {
    let path = format!(
        "/v1/models/{}/versions/{version}/retire",
        fixtures::CLASSIFIER
    );
    send(stack.client.request(Method::POST, &path)).await
}

async fn unretire(stack: &Stack, version: &str) -> Answer {
    let path = format!(
        "/v1/models/{}/versions/{version}/unretire",
        fixtures::CLASSIFIER
    );
    send(stack.client.request(Method::POST, &path)).await
}

async fn delete_alias(stack: &Stack, model: &str, alias: &str) -> Answer {
    let path = format!("/v1/models/{model}/aliases/{alias}");
    send(stack.client.request(Method::DELETE, &path)).await
}

async fn version_of(stack: &Stack, id: &Value) -> Value {
    let job = stack.client.job(id.as_str().unwrap()).await;
    job["resolved_model"]["version"].clone()
}

#[tokio::test]
async fn a_job_keeps_its_version_when_the_alias_moves() {
    let stack = stack_with_two_versions().await;
    let submit = || stack.client.submit("", fixtures::photo("cat.jpg"));
    let before = submit().await["id"].clone();
    let set = set_alias(&stack, "default", json!(2)).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let alias = json!({"object": "alias", "model": fixtures::CLASSIFIER, "alias": "default", "version": 2,
                       "previous_version": 1});
    assert_eq!(set.json(), alias);
    let after = submit().await["id"].clone();
    assert_eq!(version_of(&stack, &before).await, 1);
    assert_eq!(version_of(&stack, &after).await, 2);
    let stable = set_alias(&stack, "stable", json!(1)).await;
    assert_eq!(stable.status, 200);
    assert_eq!(stable.json()["previous_version"], json!(null), "it is new");
    let stable = format!("?model={}@stable", fixtures::CLASSIFIER);
    let stable = stack
        .client
        .submit(&stable, fixtures::photo("cat.jpg"))
        .await;
    assert_eq!(version_of(&stack, &stable["id"]).await, 1);
}

/// Ends the only job that waits as failed, as a worker does that cannot load the model.
async fn fail_next_job(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    let problem = Problem::new(ProblemCode::ModelError, "the model cannot be loaded");
    let failed = tests::settling::fail(&stack.db, &[(held.lease(), problem)]).await;
    failed.unwrap();
}

#[tokio::test]
async fn a_retry_can_run_on_the_version_that_the_alias_means_now() {
    let stack = stack_with_two_versions().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    fail_next_job(&stack).await;
    assert_eq!(set_alias(&stack, "default", json!(2)).await.status, 200);
    let path = format!("/v1/jobs/{}/retry", job["id"].as_str().unwrap());
    let retry = async |query: &str| {
        let path = format!("{path}{query}");
        send(stack.client.request(Method::POST, &path)).await
    };
    let unknown = retry("?model=newest").await;
    unknown.problem_at(422, "invalid_params", "/model");
    let again = retry("").await;
    assert_eq!(again.status, 202, "{}", again.text());
    assert_eq!(again.json()["resolved_model"]["version"], 1);
    fail_next_job(&stack).await;
    let again = retry("?model=current").await;
    assert_eq!(again.status, 202, "{}", again.text());
    assert_eq!(again.json()["resolved_model"]["version"], 2);
}

#[tokio::test]
async fn a_retry_on_a_version_that_does_not_take_the_parameters_is_refused_with_a_pointer() {
    let stack = stack_with_two_versions().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    fail_next_job(&stack).await;
    let stricter = "update model_versions set manifest = jsonb_set(manifest, '{params,top_k,maximum}', '4') where version = 2";
    sqlx::query(stricter).execute(&*stack.db).await.unwrap();
    assert_eq!(set_alias(&stack, "default", json!(2)).await.status, 200);
    let id = job["id"].as_str().unwrap();
    let path = format!("/v1/jobs/{id}/retry?model=current");
    let refused = send(stack.client.request(Method::POST, &path)).await;
    refused.problem_at(422, "invalid_params", "/params/top_k");
    assert_eq!(stack.client.job(id).await["status"], "failed");
}

#[tokio::test]
async fn the_command_retries_jobs_and_batches_on_the_current_version() {
    let stack = stack_with_two_versions().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    fail_next_job(&stack).await;
    assert_eq!(set_alias(&stack, "default", json!(2)).await.status, 200);
    let id = job["id"].as_str().unwrap();
    let retried = stack.command(&["retry", "--current-model", id]).await;
    assert!(retried.status.success(), "{retried:?}");
    assert_eq!(version_of(&stack, &job["id"]).await, 2);

    assert_eq!(set_alias(&stack, "default", json!(1)).await.status, 200);
    queue::cancel(&stack.db, id.parse().unwrap(), None)
        .await
        .unwrap();
    let line = json!({"custom_id": "cat", "image": {"sha256": job["input"]["image"]}});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{line}\n")).unwrap();
    let file = file.path().to_str().unwrap();
    let created = stack.command(&["batch", "create", file, "--json"]).await;
    assert!(created.status.success(), "{created:?}");
    let batch: Value = serde_json::from_slice(&created.stdout).unwrap();
    fail_next_job(&stack).await;
    assert_eq!(set_alias(&stack, "default", json!(2)).await.status, 200);
    let batch = batch["id"].as_str().unwrap();
    let retry = ["batch", "retry-failed", batch, "--current-model"];
    let retried = stack.command(&retry).await;
    assert!(retried.status.success(), "{retried:?}");
    let path = format!("/v1/jobs?batch_id={batch}");
    let jobs = stack.client.get(&path).await.json();
    assert_eq!(version_of(&stack, &jobs["data"][0]["id"]).await, 2);
}

#[tokio::test]
async fn a_retired_version_refuses_new_jobs_and_stays_listed() {
    let stack = stack_with_two_versions().await;
    let aliased = retire(&stack, "1").await;
    aliased.problem_at(422, "invalid_params", "/version");
    assert_eq!(
        aliased.json()["detail"],
        "/version: the alias `default` means this version: move or delete it first"
    );
    set_alias(&stack, "stable", json!(1)).await;
    let aliased = retire(&stack, "1").await.json();
    assert_eq!(
        aliased["errors"][0]["detail"],
        "the aliases `default`, `stable` mean this version: move or delete them first"
    );
    set_alias(&stack, "stable", json!(2)).await;
    set_alias(&stack, "default", json!(2)).await;
    for _ in 0..2 {
        assert_eq!(retire(&stack, "1").await.status, 204);
    }
    let first = format!("?model={}:1", fixtures::CLASSIFIER);
    let photo = fixtures::photo("cat.jpg");
    let refused = stack.client.post_job(&first, "image/jpeg", photo).await;
    refused.problem_at(404, "unknown_model", "/model");
    let refused = refused.json();
    let told = format!(
        "{}:1 is retired; `unretire` takes that back",
        fixtures::CLASSIFIER
    );
    assert_eq!(refused["detail"], told);
    assert_eq!(refused["retryable"], false);
    let back = set_alias(&stack, "default", json!(1)).await;
    back.problem_at(422, "invalid_params", "/version");
    let path = format!("/v1/models/{}/versions", fixtures::CLASSIFIER);
    let versions = stack.client.get(&path).await.json();
    assert_eq!(versions["data"][1]["retired"], true);
    for unknown in ["3", "0", "x", "99999999999"] {
        retire(&stack, unknown).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn an_unretired_version_takes_jobs_and_aliases_again() {
    let stack = stack_with_two_versions().await;
    assert_eq!(retire(&stack, "2").await.status, 204);
    let refused = set_alias(&stack, "stable", json!(2)).await;
    refused.problem_at(422, "invalid_params", "/version");
    for _ in 0..2 {
        assert_eq!(unretire(&stack, "2").await.status, 204);
    }
    assert_eq!(set_alias(&stack, "stable", json!(2)).await.status, 200);
    let second = format!("?model={}:2", fixtures::CLASSIFIER);
    let photo = fixtures::photo("cat.jpg");
    let job = stack.client.submit(&second, photo).await;
    assert_eq!(version_of(&stack, &job["id"]).await, 2);
    for unknown in ["3", "0", "x", "99999999999"] {
        unretire(&stack, unknown).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_deleted_alias_is_unknown_and_its_jobs_keep_their_version() {
    let stack = stack_with_two_versions().await;
    let model = fixtures::CLASSIFIER;
    set_alias(&stack, "stable", json!(2)).await;
    let stable = format!("?model={model}@stable");
    let photo = fixtures::photo("cat.jpg");
    let job = stack.client.submit(&stable, photo.clone()).await;
    let deleted = delete_alias(&stack, model, "stable").await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    let refused = stack.client.post_job(&stable, "image/jpeg", photo).await;
    refused.problem_at(404, "unknown_model", "/model");
    assert_eq!(version_of(&stack, &job["id"]).await, 2);
    assert_eq!(retire(&stack, "2").await.status, 204, "no alias means it");
    for (model, alias) in [
        (model, "stable"),
        (model, "%00"),
        (model, "Default"),
        ("nothing", "default"),
        ("%00", "default"),
    ] {
        let refused = delete_alias(&stack, model, alias).await;
        refused.problem(404, "not_found");
    }
}

/// Jobs that name no model use the alias `default` of the default model.
#[tokio::test]
async fn the_alias_default_can_be_deleted_except_that_of_the_default_model() {
    let stack = Stack::without_workers().await;
    let kept = delete_alias(&stack, fixtures::CLASSIFIER, "default").await;
    kept.problem_at(422, "invalid_params", "/alias");
    stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let deleted = delete_alias(&stack, fixtures::EMBEDDER, "default").await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    let by_name = format!("?model={}", fixtures::EMBEDDER);
    let photo = fixtures::photo("cat.jpg");
    let refused = stack.client.post_job(&by_name, "image/jpeg", photo).await;
    refused.problem_at(404, "unknown_model", "/model");
    let path = format!("/v1/models/{}", fixtures::EMBEDDER);
    let shown = stack.client.get(&path).await.json();
    assert_eq!(shown["default_version"], json!(null));
}

#[tokio::test]
async fn an_invalid_alias_or_version_is_refused_with_a_pointer() {
    let stack = stack_with_two_versions().await;
    for (alias, version, pointer) in [
        ("default", json!(3), "/version"),
        ("default", json!(-1), "/version"),
        ("default", json!("two"), "/version"),
        ("Stable", json!(1), "/alias"),
        ("%00", json!(1), "/alias"),
        ("9lives", json!(1), "/alias"),
    ] {
        let refused = set_alias(&stack, alias, version).await;
        refused.problem_at(422, "invalid_params", pointer);
    }
    for unknown in ["nothing", "%00"] {
        let path = format!("/v1/models/{unknown}/aliases/stable");
        let request = stack.client.request(Method::PUT, &path);
        let refused = send(request.json(&json!({"version": 1}))).await;
        refused.problem(404, "not_found");
    }
}

#[tokio::test]
async fn the_audit_names_the_key_that_moved_an_alias() {
    let stack = stack_with_two_versions().await;
    set_alias(&stack, "default", json!(2)).await;
    retire(&stack, "1").await;
    unretire(&stack, "1").await;
    set_alias(&stack, "old", json!(1)).await;
    delete_alias(&stack, fixtures::CLASSIFIER, "old").await;
    let entries: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', verb, subject, arguments, outcome) from audit where actor like 'api key % of alice' order by audit_id",
    )
    .fetch_all(&*stack.db)
    .await
    .unwrap();
    let model = fixtures::CLASSIFIER;
    assert_eq!(
        entries,
        [
            format!(r#"set_alias {model} {{"alias": "default", "version": 2}} set"#),
            format!(r#"retire_version {model} {{"version": 1}} retired"#),
            format!(r#"unretire_version {model} {{"version": 1}} unretired"#),
            format!(r#"set_alias {model} {{"alias": "old", "version": 1}} set"#),
            format!(r#"delete_alias {model} {{"alias": "old"}} deleted"#),
        ]
    );
    assert_eq!(given::OWNER, "alice");
}
