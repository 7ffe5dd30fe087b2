//! A private Postgres keeps its commits and its URL.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use local::{Postgres, PostgresOptions};
use sqlx::{Connection as _, PgConnection};

async fn start(folder: &Path) -> Postgres {
    Postgres::start(PostgresOptions {
        data: folder.join("postgres"),
        log: folder.join("postgres.log"),
        bin: None,
    })
    .await
    .unwrap()
}

/// A folder that the user of Postgres can enter.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

#[tokio::test]
async fn commits_outlive_kill_9_and_the_url_stays() {
    let folder = folder();
    let first = start(folder.path()).await;
    let url = first.url();
    assert_ne!(first.port(), 5432);
    let mut db = PgConnection::connect(&url).await.unwrap();
    sqlx::query("create table kept as select 42 as answer")
        .execute(&mut db)
        .await
        .unwrap();
    first.process.kill().await;

    let second = start(folder.path()).await;
    assert_eq!(second.url(), url);
    let mut db = PgConnection::connect(&url).await.unwrap();
    let kept: i32 = sqlx::query_scalar("select answer from kept")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert_eq!(kept, 42);
    let durable: Vec<String> = sqlx::query_scalar(
        "select setting from pg_settings \
         where name in ('fsync', 'synchronous_commit', 'data_checksums')",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert_eq!(durable, ["on", "on", "on"]);
    second.stop().await;
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let folder = folder();
    let postgres = start(folder.path()).await;
    let stranger = postgres
        .url()
        .replace("postgres://darkroom:", "postgres://darkroom:not");
    assert!(PgConnection::connect(&stranger).await.is_err());
    postgres.stop().await;
}
