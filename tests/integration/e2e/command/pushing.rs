//! `darkroom models push`, through the service and straight into Postgres and S3.

use std::process::Output;

use serde_json::{Value, json};
use tests::{Stack, fixtures};

use super::{expect_exit, expect_json, log, out};

const MODEL: &str = "bright-box";

fn folder() -> String {
    let folder = fixtures::folder().join("tasks").join(MODEL);
    folder.to_str().unwrap().to_owned()
}

/// Runs a command that knows the address of the service and this key, but neither Postgres nor the credentials of S3.
async fn command_of_a_stranger(stack: &Stack, key: &str, args: &[&str]) -> Output {
    let mut command = stack.command_line(key);
    for name in [
        "DATABASE_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL_S3",
    ] {
        command.env_remove(name);
    }
    command.args(args).output().await.unwrap()
}

#[tokio::test]
async fn a_key_is_enough_to_push() {
    let stack = Stack::bare(&[]).await;
    let key = stack.key().await;
    let folder = folder();
    let push = ["models", "push", "--no-trial", &folder, "--alias", "stable"];
    let pushed = command_of_a_stranger(&stack, &key, &push).await;
    let (line, notes) = (out(&pushed), log(&pushed));
    assert_eq!(pushed.status.code(), Some(0), "{line}{notes}");
    assert!(line.starts_with(&format!("{MODEL}:1 sha256:")), "{line}");
    assert!(line.ends_with("(new)\n"), "{line}");
    assert!(notes.contains("`stable` is new and means :1"), "{notes}");
    let again = command_of_a_stranger(&stack, &key, &push).await;
    assert!(out(&again).ends_with("(unchanged)\n"), "{}", out(&again));
    assert!(
        log(&again).contains("`default` stays at :1"),
        "{}",
        log(&again)
    );
}

#[tokio::test]
async fn a_key_without_the_scope_admin_is_refused_and_nothing_is_registered() {
    let stack = Stack::bare(&[]).await;
    let create = [
        "keys",
        "create",
        "--name",
        "n",
        "--owner",
        "bob",
        "--scopes",
        "submit,read,operate",
    ];
    let key = expect_exit(&stack, 0, &create).await;
    let push = ["models", "push", "--no-trial", &folder()];
    let refused = command_of_a_stranger(&stack, key.trim(), &push).await;
    assert_eq!(refused.status.code(), Some(4), "{}", log(&refused));
    assert!(log(&refused).contains("admin"), "{}", log(&refused));
    let models = expect_json(&stack, 0, &["models", "list"]).await;
    assert_eq!(models["data"], json!([]));
}

#[tokio::test]
async fn a_direct_push_and_a_push_through_the_service_say_the_same() {
    let stack = Stack::bare(&[]).await;
    let folder = folder();
    let through = expect_json(&stack, 0, &["models", "push", "--no-trial", &folder]).await;
    let direct = expect_json(
        &stack,
        0,
        &["models", "push", "--direct", "--no-trial", &folder],
    )
    .await;
    assert_eq!(
        (&through["new"], &direct["new"]),
        (&json!(true), &json!(false))
    );
    for field in ["name", "version", "digest", "alias", "aliases"] {
        assert_eq!(through[field], direct[field], "{field}");
    }
    // Without a key, and with a database, the push is direct.
    let mut command = stack.command_line("");
    command.env_remove("DARKROOM_API_KEY");
    let keyless = command
        .args(["models", "push", "--no-trial", &folder])
        .output()
        .await;
    let keyless = keyless.unwrap();
    assert_eq!(keyless.status.code(), Some(0), "{}", log(&keyless));
    let actors: Vec<bool> = sqlx::query_scalar(
        "select actor like 'api key %' from ops.audit where verb = 'push_version' order by at",
    )
    .fetch_all(&*stack.db)
    .await
    .unwrap();
    assert_eq!(actors, [true, false, false]);
}

#[tokio::test]
async fn acts_on_models_say_what_changed_and_what_did_not() {
    let stack = Stack::bare(&[]).await;
    let own = tempfile::tempdir().unwrap();
    for file in ["model.pt", "labels.txt"] {
        let source = std::path::Path::new(&folder()).join(file);
        std::fs::copy(source, own.path().join(file)).unwrap();
    }
    let mut manifest: Value = fixtures::json(&format!("tasks/{MODEL}/model.json"));
    manifest["source"] = json!("another one");
    std::fs::write(own.path().join("model.json"), manifest.to_string()).unwrap();
    let run = async |code: i32, args: &[&str]| {
        let run = stack.command(args).await;
        assert_eq!(run.status.code(), Some(code), "{args:?}: {}", log(&run));
        log(&run)
    };
    run(0, &["models", "push", "--no-trial", &folder()]).await;
    let own = own.path().to_str().unwrap();
    let notes = run(
        0,
        &["models", "push", "--no-trial", own, "--alias", "stable"],
    )
    .await;
    assert!(notes.contains("`stable` is new and means :2"), "{notes}");
    assert!(notes.contains("`default` stays at :1"), "{notes}");

    let notes = run(0, &["models", "alias", MODEL, "stable", "1"]).await;
    assert!(notes.contains("`stable` moved from :2 to :1"), "{notes}");
    let notes = run(0, &["models", "alias", MODEL, "stable", "1"]).await;
    assert!(notes.contains("`stable` stays at :1"), "{notes}");

    let notes = run(0, &["models", "retire", MODEL, "2"]).await;
    assert!(notes.contains(&format!("{MODEL}:2 is retired")), "{notes}");
    assert!(notes.contains("`default` stays at :1"), "{notes}");
    let notes = run(
        4,
        &["models", "push", "--no-trial", own, "--alias", "stable"],
    )
    .await;
    assert!(notes.contains("retired"), "{notes}");
    run(0, &["models", "unretire", MODEL, "2"]).await;
    run(5, &["models", "unretire", MODEL, "9"]).await;
    let notes = run(
        0,
        &["models", "push", "--no-trial", own, "--alias", "stable"],
    )
    .await;
    assert!(notes.contains("`stable` moved from :1 to :2"), "{notes}");

    let notes = run(0, &["models", "unalias", MODEL, "stable"]).await;
    assert!(notes.contains("`stable` is deleted"), "{notes}");
    assert!(notes.contains("`default` stays at :1"), "{notes}");
    run(5, &["models", "unalias", MODEL, "stable"]).await;
    run(4, &["models", "unalias", MODEL, "default"]).await;
}
