//! A database for one test: a copy of a migrated template, made in about 50 ms.

use std::{ops::Deref, str::FromStr, time::Duration};

use jobs::{
    MIGRATOR, Secret, Sha256Digest,
    db::{Db, DbConfig, Reads, ReadsConfig},
};
use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// A database of one test. Derefs to its pool. Dropped from the server at the end, unless the test failed.
#[derive(Debug)]
pub struct Database {
    db: Db,
    name: String,
    url: String,
}

impl Database {
    pub async fn create() -> Self {
        let mut admin = admin().await;
        let template = template(&mut admin).await;
        let name = format!("darkroom_test_{}", uuid::Uuid::now_v7().simple());
        run(
            &mut admin,
            &format!("create database {name} template {template}"),
        )
        .await;
        let url = on_server(&name);
        if let Ok(guard) = std::env::var(GUARD_REMOVAL) {
            remove_guard(&guard, &name).await;
        }
        let db = Db::connect(&config(&url), "tests").unwrap();
        // The template may have been made on another day.
        jobs::db::make_partitions(&db, 3).await.unwrap();
        Self { db, name, url }
    }

    /// URL for other processes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection outside of the pool.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Another pool, like that of another process.
    pub fn another_pool(&self) -> Db {
        Db::connect(&config(&self.url), "tests").unwrap()
    }

    /// Connections for reads that look at many rows, as the API has them.
    pub fn reads(&self) -> Reads {
        let limits = ReadsConfig {
            db_read_connections_max: 4,
            db_reads_per_owner_max: 2,
            db_read_timeout_ms: 30_000,
        };
        Reads::connect(&config(&self.url), &limits, "tests").unwrap()
    }

    /// A pool of one connection in an open transaction: its changes are uncommitted until the test executes `commit` on it.
    pub async fn in_open_transaction(&self) -> PgPool {
        let one = PgPoolOptions::new().max_connections(1);
        let pool = one.connect(&self.url).await.unwrap();
        sqlx::raw_sql("begin").execute(&pool).await.unwrap();
        pool
    }
}

impl Deref for Database {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{LEFT}{}", self.name);
            return;
        }
        let name = std::mem::take(&mut self.name);
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(remove(&name));
        });
        drop(removal.join());
    }
}

/// A failed test prints this line, with the name of its database.
const LEFT: &str = "the test's database is left as it was: ";

/// Removes the databases whose names the failed tests have printed.
pub async fn remove_databases_of_failed_tests(printed: &str) {
    for name in printed.lines().filter_map(|line| line.strip_prefix(LEFT)) {
        remove(name).await;
    }
}

/// Removes a database. After five seconds it stays on the test server: the removal waits for every backend of the server, and the
/// connections that this test has begun to open make no progress now.
async fn remove(name: &str) {
    let statement =
        format!("set statement_timeout = '5s'; drop database if exists {name} with (force)");
    let mut db = admin().await;
    for statement in statement.split("; ") {
        let removal = sqlx::raw_sql(sqlx::AssertSqlSafe(statement));
        if let Err(error) = removal.execute(&mut db).await {
            eprintln!("cannot remove the database {name} of the test: {error}");
        }
    }
}

/// Environment variable with a statement that removes a guard from each new database.
pub const GUARD_REMOVAL: &str = "DARKROOM_TEST_DATABASE_WITHOUT";

async fn remove_guard(guard: &str, database: &str) {
    let mut db = PgConnection::connect(&on_server(database)).await.unwrap();
    let removal = sqlx::raw_sql(sqlx::AssertSqlSafe(guard));
    if let Err(error) = removal.execute(&mut db).await {
        eprintln!("{guard:?} cannot remove a guard: {error}\n{LEFT}{database}");
        // Exits instead of a panic: a test that could not begin must not look like a failed test.
        std::process::exit(99);
    }
    db.close().await.unwrap();
}

pub(crate) fn server() -> String {
    std::env::var("DATABASE_URL").expect(
        "no DATABASE_URL: run the tests by ./tests/run, or under `darkroom-local with -- …`",
    )
}

/// URL of a database on the server.
fn on_server(database: &str) -> String {
    let mut url = reqwest::Url::parse(&server()).unwrap();
    url.set_path(database);
    url.into()
}

fn config(url: &str) -> DbConfig {
    DbConfig {
        database_url: Secret::new(url),
        database_direct_url: None,
        database_password_file: None,
        db_connections_max: 10,
        db_acquire_timeout_ms: 10_000,
        db_statement_timeout_ms: 30_000,
        no_migrate: true,
    }
}

async fn admin() -> PgConnection {
    let options = PgConnectOptions::from_str(&server()).unwrap();
    PgConnection::connect_with(&options).await.unwrap()
}

async fn run(db: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(db)
        .await
        .unwrap();
}

/// Name of the template. The first process of each set of migrations makes it.
async fn template(admin: &mut PgConnection) -> String {
    let checksums: Vec<u8> = MIGRATOR
        .iter()
        .flat_map(|migration| migration.checksum.to_vec())
        .collect();
    let name = format!(
        "darkroom_template_{}",
        &Sha256Digest::of(&checksums).hex()[..12]
    );
    run(
        admin,
        "select pg_advisory_lock(hashtext('darkroom test template'))",
    )
    .await;
    let made: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&name)
            .fetch_one(&mut *admin)
            .await
            .unwrap();
    if !made {
        // Has another name until it is complete: the process that makes it may be killed.
        run(
            admin,
            &format!("drop database if exists {name}_unfinished with (force)"),
        )
        .await;
        run(admin, &format!("create database {name}_unfinished")).await;
        let mut fresh = PgConnection::connect(&on_server(&format!("{name}_unfinished")))
            .await
            .unwrap();
        MIGRATOR.run(&mut fresh).await.unwrap();
        fresh.close().await.unwrap();
        run(
            admin,
            &format!("alter database {name}_unfinished rename to {name}"),
        )
        .await;
    }
    run(
        admin,
        "select pg_advisory_unlock(hashtext('darkroom test template'))",
    )
    .await;
    name
}

/// Waits until a statement waits for a lock.
pub async fn wait_for_a_blocked_statement(db: &PgPool) {
    crate::eventually(
        Duration::from_secs(10),
        "a statement waits for a lock",
        || async {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
            )
            .fetch_one(db)
            .await
            .unwrap();
            (waiting > 0).then_some(())
        },
    )
    .await;
}

/// Waits until the task is done, or until a statement waits for a lock.
pub async fn wait_until_done_or_blocked<T>(db: &PgPool, task: &tokio::task::JoinHandle<T>) {
    tokio::select! {
        () = wait_for_a_blocked_statement(db) => {}
        () = crate::eventually(Duration::from_secs(10), "the task is done", || async { task.is_finished().then_some(()) }) => {}
    }
}
