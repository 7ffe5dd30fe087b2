//! Keys, models, figures: what operators type.

use serde_json::{Value, json};
use tests::{Stack, fixtures, given};

use super::{document, ids, log, says};

async fn one_succeeds(stack: &Stack) {
    stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let held = given::claimed_by(&stack.db, "w").await;
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_is_made_listed_and_revoked() {
    let stack = Stack::bare(&[]).await;
    let create = [
        "keys", "create", "--name", "phones", "--owner", "bob", "--scopes", "read",
    ];
    let key = says(&stack, 0, &create).await;
    let list = says(&stack, 0, &["keys", "list"]).await;
    let line = list.lines().find(|line| line.contains("phones")).unwrap();
    let id = line.split_whitespace().next().unwrap();
    assert!(key.starts_with(&format!("dk_{id}_")), "{list}");
    assert!(!list.contains(key.trim()), "nobody has it any more");

    let mut stats = stack.command_line(key.trim());
    let refused = stats.arg("stats").output().await.unwrap();
    assert_eq!(refused.status.code(), Some(4), "it may read, not operate");
    assert!(log(&refused).contains("scope"), "{}", log(&refused));
    for _ in 0..2 {
        says(&stack, 0, &["keys", "revoke", id]).await;
    }
    let keys = document(&stack, 0, &["keys", "list"]).await;
    let keys = keys["data"].as_array().unwrap();
    let revoked = keys.iter().filter(|key| key["revoked_at"].is_string());
    let revoked: Vec<_> = revoked.map(|key| &key["id"]).collect();
    assert_eq!(revoked, [id]);
    says(&stack, 5, &["keys", "revoke", "000000000000"]).await;
    says(&stack, 2, &["keys", "revoke", "../jobs"]).await;
}

#[tokio::test]
async fn a_version_is_rolled_out_and_the_one_before_retired() {
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
    let push = ["models", "push", folder.path().to_str().unwrap()];
    let pushed = says(&stack, 0, &push).await;
    assert!(pushed.starts_with(&format!("{name}:2 sha256:")), "{pushed}");

    says(&stack, 4, &["models", "retire", name, "1"]).await;
    says(&stack, 0, &["models", "alias", name, "default", "2"]).await;
    for _ in 0..2 {
        says(&stack, 0, &["models", "retire", name, "1"]).await;
    }
    let shown = document(&stack, 0, &["models", "show", name]).await;
    let versions = shown["versions"]["data"].as_array().unwrap();
    let versions: Vec<_> = versions
        .iter()
        .map(|one| json!([one["version"], one["aliases"], one["retired"]]))
        .collect();
    assert_eq!(
        versions,
        [json!([2, ["default"], false]), json!([1, [], true])]
    );
    says(&stack, 4, &["models", "alias", name, "default", "9"]).await;
    says(&stack, 2, &["models", "alias", name, "Default", "1"]).await;
    says(&stack, 5, &["models", "alias", "nothing", "default", "1"]).await;
    says(&stack, 5, &["models", "retire", name, "9"]).await;
}

#[tokio::test]
async fn figures_show_what_waits_and_what_was_used() {
    let stack = Stack::without_workers().await;
    one_succeeds(&stack).await;
    stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let stats = says(&stack, 0, &["stats"]).await;
    assert!(stats.starts_with("1 queued, oldest "), "{stats}");
    let models = ids(stats.split_once("\n\n").unwrap().1);
    assert_eq!(models, [fixtures::CLASSIFIER, fixtures::EMBEDDER]);
    assert_eq!(document(&stack, 0, &["stats"]).await["queued"], 1);

    let by_model = says(&stack, 0, &["usage", "--batch-by", "model"]).await;
    let heads: Vec<_> = by_model.split_whitespace().take(3).collect();
    assert_eq!(heads, ["MODEL", "JOBS", "SUCCEEDED"]);
    assert_eq!(ids(&by_model), [fixtures::CLASSIFIER]);
    let owners = ["usage", "--batch-by", "owner,day", "--from", "2020-01-01"];
    let used = document(&stack, 0, &owners).await;
    assert_eq!(used["data"][0]["owner"], given::OWNER);
    let nothing = ["usage", "--to", "2020-01-01"];
    assert_eq!(says(&stack, 0, &nothing).await, "no job has ended yet\n");
    says(&stack, 4, &["usage", "--batch-by", "color"]).await;
    says(&stack, 2, &["usage", "--from", "yesterday"]).await;
}

#[tokio::test]
async fn all_queues_are_watched_until_they_are_idle() {
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
    let idle = document(&stack, 0, &watch).await;
    assert_eq!(idle["queued"], 0);
    let both = ["watch", "--until-idle", job["id"].as_str().unwrap()];
    says(&stack, 2, &both).await;
    says(&stack, 1, &["watch", job["id"].as_str().unwrap()]).await;
}
