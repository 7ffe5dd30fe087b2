//! Programs and a schema of different versions.

use jobs::{
    Secret,
    db::{self, DbConfig},
};
use tests::given;

fn config(url: &str) -> DbConfig {
    DbConfig {
        database_url: Secret::new(url),
        database_direct_url: None,
        database_password_file: None,
        db_connections_max: 4,
        db_acquire_timeout_ms: 5_000,
        db_statement_timeout_ms: 5_000,
        no_migrate: false,
    }
}

async fn insert_unknown_migration(db: &given::Database) {
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (999999, 'of tomorrow', true, '\\x00', 0)",
    )
    .execute(&**db)
    .await
    .unwrap();
}

#[tokio::test]
async fn an_older_program_starts_on_a_newer_schema() {
    let db = given::database().await;
    insert_unknown_migration(&db).await;
    db::migrate(&db, &config(db.url())).await.unwrap();
}

#[tokio::test]
async fn a_program_with_a_changed_migration_does_not_start() {
    let db = given::database().await;
    insert_unknown_migration(&db).await;
    sqlx::query("update _sqlx_migrations set checksum = '\\x00' where version = 2")
        .execute(&*db)
        .await
        .unwrap();
    db::migrate(&db, &config(db.url())).await.unwrap_err();
}
