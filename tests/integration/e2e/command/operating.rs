//! Commands for operators: keys, models, statistics.

use serde_json::{Value, json};
use tests::{Stack, fixtures, given};

use super::{expect_exit, expect_json, ids, log};

async fn complete_one_job(stack: &Stack) {
    stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let held = given::claimed_by(&stack.db, "w").await;
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_is_created_listed_and_revoked() {
    let stack = Stack::bare(&[]).await;
    let create = [
        "keys", "create", "--name", "phones", "--owner", "bob", "--scopes", "read",
    ];
    let key = expect_exit(&stack, 0, &create).await;
    let list = expect_exit(&stack, 0, &["keys", "list"]).await;
    let line = list.lines().find(|line| line.contains("phones")).unwrap();
    let id = line.split_whitespace().next().unwrap();
    assert!(key.starts_with(&format!("dk_{id}_")), "{list}");
    assert!(!list.contains(key.trim()), "the list must not show the key");

    let mut stats = stack.command_line(key.trim());
    let refused = stats.arg("stats").output().await.unwrap();
    assert_eq!(refused.status.code(), Some(4), "the key may only read");
    assert!(log(&refused).contains("scope"), "{}", log(&refused));
    for _ in 0..2 {
        expect_exit(&stack, 0, &["keys", "revoke", id]).await;
    }
    let keys = expect_json(&stack, 0, &["keys", "list"]).await;
    let keys = keys["data"].as_array().unwrap();
    let revoked = keys.iter().filter(|key| key["revoked_at"].is_string());
    let revoked: Vec<_> = revoked.map(|key| &key["id"]).collect();
    assert_eq!(revoked, [id]);
    expect_exit(&stack, 5, &["keys", "revoke", "000000000000"]).await;
    expect_exit(&stack, 2, &["keys", "revoke", "../jobs"]).await;
}

#[tokio::test]
async fn a_new_version_is_rolled_out_and_the_old_version_is_retired() {
    let stack = Stack::with_models().await;
    let name = fixtures::EMBEDDER;
    let folder = tempfile::tempdir().unwrap();
    let mut manifest: Value =
        serde_json::from_slice(&std::fs::read(fixtures::model(name).join("model.json")).unwrap())
            .unwrap();
    manifest["license"] = json!("none");
    std::fs::copy(
        fixtures::model(name).join("model.pt"),
        folder.path().join("model.pt"),
    )
    .unwrap();
    std::fs::write(folder.path().join("model.json"), manifest.to_string()).unwrap();
    let folder = folder.path().to_str().unwrap();
    let push = ["models", "push", "--no-trial", folder];
    let pushed = expect_exit(&stack, 0, &push).await;
    assert!(pushed.starts_with(&format!("{name}:2 sha256:")), "{pushed}");

    expect_exit(&stack, 4, &["models", "retire", name, "1"]).await;
    expect_exit(&stack, 0, &["models", "alias", name, "default", "2"]).await;
    for _ in 0..2 {
        expect_exit(&stack, 0, &["models", "retire", name, "1"]).await;
    }
    let shown = expect_json(&stack, 0, &["models", "show", name]).await;
    let versions = shown["versions"]["data"].as_array().unwrap();
    let versions: Vec<_> = versions
        .iter()
        .map(|one| json!([one["version"], one["aliases"], one["retired"]]))
        .collect();
    assert_eq!(
        versions,
        [json!([2, ["default"], false]), json!([1, [], true])]
    );
    expect_exit(&stack, 4, &["models", "alias", name, "default", "9"]).await;
    expect_exit(&stack, 2, &["models", "alias", name, "Default", "1"]).await;
    expect_exit(&stack, 5, &["models", "alias", "nothing", "default", "1"]).await;
    expect_exit(&stack, 5, &["models", "retire", name, "9"]).await;
}

#[tokio::test]
async fn stats_shows_queued_jobs_and_usage_shows_ended_jobs() {
    let stack = Stack::without_workers().await;
    complete_one_job(&stack).await;
    stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let stats = expect_exit(&stack, 0, &["stats"]).await;
    assert!(stats.starts_with("1 queued, oldest "), "{stats}");
    let models = ids(stats.split_once("\n\n").unwrap().1);
    assert_eq!(models, [fixtures::CLASSIFIER, fixtures::EMBEDDER]);
    assert_eq!(expect_json(&stack, 0, &["stats"]).await["queued"], 1);

    let by_model = expect_exit(&stack, 0, &["usage", "--group-by", "model"]).await;
    let heads: Vec<_> = by_model.split_whitespace().take(3).collect();
    assert_eq!(heads, ["MODEL", "JOBS", "SUCCEEDED"]);
    assert_eq!(ids(&by_model), [fixtures::CLASSIFIER]);
    let owners = ["usage", "--group-by", "owner,day", "--from", "2020-01-01"];
    let used = expect_json(&stack, 0, &owners).await;
    assert_eq!(used["data"][0]["owner"], given::OWNER);
    let nothing = ["usage", "--to", "2020-01-01"];
    assert_eq!(
        expect_exit(&stack, 0, &nothing).await,
        "no job has ended yet\n"
    );
    expect_exit(&stack, 4, &["usage", "--group-by", "color"]).await;
    expect_exit(&stack, 2, &["usage", "--from", "yesterday"]).await;
}

#[tokio::test]
async fn watch_until_idle_ends_when_no_job_is_queued() {
    let stack = Stack::without_workers().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let watch = ["watch", "--until-idle", "--every", "100ms"];
    let key = stack.key().await;
    let mut command = stack.command_line(&key);
    let mut watching = command
        .args(watch)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(
        watching.stdout.take().unwrap(),
    ));
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.starts_with("1 queued, "), "{first}");
    stack.client.cancel(job["id"].as_str().unwrap()).await;
    assert!(watching.wait().await.unwrap().success());
    let idle = expect_json(&stack, 0, &watch).await;
    assert_eq!(idle["queued"], 0);
    let both = ["watch", "--until-idle", job["id"].as_str().unwrap()];
    expect_exit(&stack, 2, &both).await;
    expect_exit(&stack, 1, &["watch", job["id"].as_str().unwrap()]).await;
}
