//! Settings with a secret, from files.

use tests::Stack;

#[tokio::test]
async fn the_api_and_the_command_line_take_their_secrets_from_files() {
    let stack = Stack::bare(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{content}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let url = file("url", stack.db.url());
    // An empty variable counts as unset.
    let api = stack
        .another_api(&[("DATABASE_URL", ""), ("DATABASE_URL_FILE", &url)])
        .await;
    let key = stack.key().await;
    let key_file = file("key", &key);
    let mut list = stack.command_line(&key);
    list.env_remove("DARKROOM_API_KEY")
        .env("DARKROOM_URL", &api.url)
        .args(["keys", "list", "--api-key-file", &key_file]);
    let listed = list.output().await.unwrap();
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    let mut migrate = stack.command_line(&key);
    migrate
        .env_remove("DATABASE_URL")
        .env("DATABASE_URL_FILE", &url)
        .arg("migrate");
    let migrated = migrate.output().await.unwrap();
    assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
}

#[tokio::test]
async fn a_secret_that_is_given_twice_stops_the_start_and_is_not_printed() {
    let stack = Stack::bare(&[]).await;
    let key = stack.key().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, &key).unwrap();
    let mut list = stack.command_line(&key);
    list.env("DARKROOM_API_KEY_FILE", &path)
        .args(["keys", "list"]);
    let refused = list.output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("not both") && !said.contains(&key), "{said}");
}
