//! Behind a PgBouncer in transaction mode: a statement leaves no session state on its connection. Statements that need a
//! session use the direct URL.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jobs::{
    db::{self, Db, DbConfig, StatementPool},
    queue::{self, Enqueuer, EnqueuerConfig, LowWater, LowerLevels, WorkerListener},
};
use sqlx::{PgConnection, PgExecutor, PgPool, migrate::MigrateError};
use tests::{Database, Pgbouncer, given};
use tokio::{sync::Notify, time::timeout};

/// Longest wait of a test for an operation that takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(20);

async fn start_pgbouncer(connections: u32) -> Option<(Database, Pgbouncer)> {
    let pgbouncer = Pgbouncer::start(connections).await?;
    Some((given::database().await, pgbouncer))
}

/// A pool behind PgBouncer, like the pool of another process.
fn client(pgbouncer: &Pgbouncer, db: &Database) -> Db {
    Db::connect(&pgbouncer.config(db), "behind").unwrap()
}

async fn pid(db: impl PgExecutor<'_>) -> Result<i32, sqlx::Error> {
    let pid = sqlx::query_scalar("select pg_backend_pid()");
    pid.fetch_one(db).await
}

async fn settings(db: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    let settings = sqlx::query_scalar(
        "select current_setting(name) from unnest(array['plan_cache_mode', 'enable_seqscan', 'enable_hashjoin']) as s(name)",
    );
    settings.fetch_all(db).await
}

async fn count_probes(db: &PgPool) -> i64 {
    let count = sqlx::query_scalar("select count(*) from probe");
    let count = timeout(TIMEOUT, count.fetch_one(db)).await;
    count.expect("the connection must be free").unwrap()
}

async fn start_with_probe_table() -> Option<(Database, Pgbouncer)> {
    let (db, pgbouncer) = start_pgbouncer(1).await?;
    let table = sqlx::query("create table probe (n int)");
    table.execute(&*db).await.unwrap();
    Some((db, pgbouncer))
}

#[tokio::test]
async fn settings_of_a_statement_do_not_reach_the_next_client() {
    let Some((db, pgbouncer)) = start_pgbouncer(1).await else {
        return;
    };
    let statement_pool = StatementPool::by_keys(client(&pgbouncer, &db));
    for _ in 0..2 {
        let looked = statement_pool.run(async |db| {
            let first_pid = pid(&mut *db).await?;
            Ok::<_, sqlx::Error>((first_pid, settings(&mut *db).await?))
        });
        let (first_pid, set) = looked.await.unwrap();
        assert_eq!(set, ["force_generic_plan", "off", "off"]);
        let other = client(&pgbouncer, &db);
        assert_eq!(
            pid(&other).await.unwrap(),
            first_pid,
            "the next client must get that connection"
        );
        assert_eq!(settings(&other).await.unwrap(), ["auto", "on", "on"]);
    }
}

#[tokio::test]
async fn a_dropped_statement_leaves_no_open_transaction() {
    let Some((db, pgbouncer)) = start_with_probe_table().await else {
        return;
    };
    let statement_pool = StatementPool::with_one_plan(client(&pgbouncer, &db));
    let written = Notify::new();
    let submit = statement_pool.run(async |db| {
        let write = sqlx::query("insert into probe values (1)");
        write.execute(&mut *db).await?;
        written.notify_one();
        std::future::pending::<Result<(), sqlx::Error>>().await
    });
    tokio::select! {
        ended = submit => panic!("the submit must not end: {ended:?}"),
        () = written.notified() => {}
    }
    assert_eq!(count_probes(&client(&pgbouncer, &db)).await, 0);
}

#[tokio::test]
async fn a_failed_statement_is_rolled_back_and_frees_its_connection() {
    let Some((db, pgbouncer)) = start_with_probe_table().await else {
        return;
    };
    let statement_pool = StatementPool::with_one_plan(client(&pgbouncer, &db));
    let failed = statement_pool.run(async |db| {
        let write = sqlx::query("insert into probe values (1)");
        write.execute(&mut *db).await?;
        sqlx::query("select 1 / 0").execute(&mut *db).await?;
        Ok::<_, sqlx::Error>(())
    });
    let failed = failed.await;
    assert!(
        matches!(failed, Err(sqlx::Error::Database(_))),
        "{failed:?}"
    );
    assert_eq!(count_probes(&client(&pgbouncer, &db)).await, 0);
    let write = sqlx::query("insert into probe values (2)");
    let written = statement_pool.run(async |db| write.execute(db).await).await;
    written.unwrap();
    assert_eq!(count_probes(&db).await, 1);
}

/// PgBouncer reports a server that died during a commit as if the server had refused the commit.
#[tokio::test]
async fn a_commit_without_an_answer_has_an_unknown_outcome() {
    let Some((db, pgbouncer)) = start_pgbouncer(1).await else {
        return;
    };
    let statement_pool = StatementPool::with_one_plan(client(&pgbouncer, &db));
    let died = statement_pool.run(async |connection| {
        let backend = pid(&mut *connection).await?;
        let end = sqlx::query("select pg_terminate_backend($1, 10000)").bind(backend);
        end.execute(&*db).await?;
        Ok::<_, sqlx::Error>(())
    });
    let died = died.await;
    assert!(matches!(died, Err(sqlx::Error::Io(_))), "{died:?}");
}

#[tokio::test]
async fn migrations_and_listen_use_the_direct_url() {
    let Some((db, pgbouncer)) = start_pgbouncer(1).await else {
        return;
    };
    let (pool, config) = (client(&pgbouncer, &db), pgbouncer.config(&db));
    // From here on, PgBouncer has no free connection.
    let mut only_connection = pool.acquire().await.unwrap();
    let hold = sqlx::raw_sql("begin; select 1");
    hold.execute(&mut *only_connection).await.unwrap();

    sqlx::query("update _sqlx_migrations set success = false where version = 1")
        .execute(&*db)
        .await
        .unwrap();
    let migrated = timeout(TIMEOUT, db::migrate(&pool, &config)).await;
    let migrated = migrated.expect("a migration must not wait for PgBouncer");
    assert!(
        matches!(migrated, Err(MigrateError::Dirty(1))),
        "{migrated:?}"
    );

    let began = Instant::now();
    let listener = WorkerListener::start(pool.direct());
    listener.queued(Duration::from_secs(30)).await; // the listener is connected now
    sqlx::query("select pg_notify('darkroom_queued', '1')")
        .execute(&*db)
        .await
        .unwrap();
    listener.queued(Duration::from_secs(30)).await;
    assert!(began.elapsed() < TIMEOUT, "not woken");
}

#[tokio::test]
async fn a_migration_through_pgbouncer_names_the_missing_setting() {
    let Some((db, pgbouncer)) = start_pgbouncer(1).await else {
        return;
    };
    let config = DbConfig {
        database_direct_url: None,
        ..pgbouncer.config(&db)
    };
    let pool = Db::connect(&config, "behind").unwrap();
    let refused = db::migrate(&pool, &config).await.unwrap_err().to_string();
    assert!(refused.contains("DATABASE_DIRECT_URL"), "{refused}");
}

/// Two processes share two connections, so most statements run on a connection that another client prepared.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_over_shared_connections_are_queued_and_completed_once() {
    let Some((db, pgbouncer)) = start_pgbouncer(2).await else {
        return;
    };
    let model = given::model_version(&db, given::MODEL).await;
    let config = EnqueuerConfig {
        enqueue_batch_max: 7,
        enqueue_waiting_max: 1_000,
        enqueue_company_ms: 0,
    };
    let enqueuer = Enqueuer::start(client(&pgbouncer, &db), &config);
    let jobs = (0..100).map(|n| given::job(&model, &n.to_string()));
    let submits = join_all(jobs.map(|job| enqueuer.submit(job)));
    let worker = given::worker(&db, "w").await;
    let (statement_pool, low_water, lower_levels) = (
        StatementPool::with_one_plan(client(&pgbouncer, &db)),
        LowWater::default(),
        LowerLevels::default(),
    );
    let work = async {
        let mut done = 0;
        while done < 100 {
            let claim = async |db: &mut PgConnection| {
                queue::claim(db, worker, &[], 9, &low_water, &lower_levels).await
            };
            let claims = statement_pool.run(claim).await.unwrap().into_iter();
            let completions = claims.map(|claim| given::completion(claim.lease, "cat"));
            let completions: Vec<_> = completions.collect();
            let complete = async |db: &mut PgConnection| queue::settle(db, &completions).await;
            done += statement_pool.run(complete).await.unwrap().len();
        }
    };
    let (submitted, done) = tokio::join!(submits, timeout(TIMEOUT, work));
    done.expect("all jobs must be completed in time");
    assert!(submitted.iter().all(Result::is_ok), "{submitted:?}");
    let rows = "select (select count(*) from finished_jobs), (select count(*) from live_jobs)";
    let rows: (i64, i64) = sqlx::query_as(rows).fetch_one(&*db).await.unwrap();
    assert_eq!(rows, (100, 0));
}
