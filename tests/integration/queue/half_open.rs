//! Half-open connections: a caller waits a bounded time for such a connection and then gets another.

use std::time::Duration;

use jobs::{
    Secret,
    db::{self, Db, DbConfig, StatementPool},
    queue::Notifier,
};
use sqlx::{PgConnection, migrate::Migrate, postgres::PgListener};
use tests::{
    given,
    proxy::{Protocol, Proxy},
};
use tokio::time::timeout;

/// Longest wait of a test for an operation that takes a few seconds at most.
const TIMEOUT: Duration = Duration::from_secs(20);

fn config_with_short_timeouts(url: &str) -> DbConfig {
    DbConfig {
        database_url: Secret::new(url),
        database_direct_url: None,
        database_password_file: None,
        db_connections_max: 4,
        db_acquire_timeout_ms: 5_000,
        db_statement_timeout_ms: 1_000,
        no_migrate: false,
    }
}

async fn pool_behind_a_proxy() -> (given::Database, Proxy, Db) {
    let db = given::database().await;
    let mut url = reqwest::Url::parse(db.url()).unwrap();
    let proxy = Proxy::start(Protocol::Postgres, url.port().unwrap()).await;
    url.set_port(Some(proxy.port())).unwrap();
    let pool = Db::connect(&config_with_short_timeouts(url.as_str()), "stranded").unwrap();
    (db, proxy, pool)
}

/// A pool of two half-open connections that have been idle for at least `idle_seconds`.
async fn half_open_pool(idle_seconds: f64) -> (given::Database, Proxy, Db) {
    let (db, proxy, pool) = pool_behind_a_proxy().await;
    let used = futures_util::future::join_all((0..2).map(|_| pool.acquire())).await;
    drop(used);
    let idle = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                and state = 'idle' and application_name = 'stranded' and state_change < now() - make_interval(secs => $1)";
    tests::eventually(TIMEOUT, "both connections are idle in the pool", || async {
        let idle = sqlx::query_scalar(idle).bind(idle_seconds);
        let idle: i64 = idle.fetch_one(&*db).await.unwrap();
        (idle == 2 && pool.num_idle() == 2).then_some(())
    })
    .await;
    assert_eq!(proxy.make_half_open(), 2);
    (db, proxy, pool)
}

async fn can_query(connection: &mut PgConnection) -> bool {
    let one = sqlx::query("select 1").execute(connection);
    timeout(TIMEOUT, one)
        .await
        .expect("the connection answers")
        .is_ok()
}

#[tokio::test]
async fn the_statement_pool_replaces_half_open_connections() {
    let (_db, _proxy, pool) = half_open_pool(0.0).await;
    let statement_pool = StatementPool::with_one_plan(pool);
    let lent = timeout(TIMEOUT, statement_pool.take()).await;
    let mut lent = lent.expect("the pool must not wait forever").unwrap();
    assert!(can_query(&mut lent).await);
}

#[tokio::test]
async fn half_open_idle_connections_do_not_use_up_the_acquire_timeout() {
    let (_db, _proxy, pool) = half_open_pool(1.5).await;
    let mut connection = pool
        .acquire()
        .await
        .expect("the acquire timeout must suffice for both pings and a new connection");
    assert!(can_query(&mut connection).await);
}

#[tokio::test]
async fn wake_ups_are_sent_again_after_a_half_open_connection() {
    let (db, proxy, pool) = pool_behind_a_proxy().await;
    let mut listener = PgListener::connect(db.url()).await.unwrap();
    listener.listen("darkroom_queued").await.unwrap();
    let notifier = Notifier::start(pool);
    notifier.queued(1);
    let heard = timeout(TIMEOUT, listener.recv()).await.unwrap().unwrap();
    assert_eq!(heard.payload(), "1");
    assert_eq!(proxy.make_half_open(), 1);
    notifier.queued(2); // this wake-up is lost; waiting requests also poll
    let sent_again = async {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                _ = every.tick() => notifier.queued(3),
                heard = listener.recv() => return heard.unwrap(),
            }
        }
    };
    assert!(timeout(TIMEOUT, sent_again).await.is_ok());
}

#[tokio::test]
async fn a_process_starts_while_another_process_hangs_in_its_migrations() {
    let db = given::database().await;
    let mut other = db.connection().await;
    other.lock().await.unwrap();
    let migrated = timeout(
        TIMEOUT,
        db::migrate(&db, &config_with_short_timeouts(db.url())),
    )
    .await;
    migrated
        .expect("no migration is pending, so no lock is needed")
        .unwrap();
}

#[tokio::test]
async fn a_failed_migration_releases_its_lock() {
    let db = given::database().await;
    sqlx::query("update _sqlx_migrations set success = false where version = 1")
        .execute(&*db)
        .await
        .unwrap();
    assert!(
        db::migrate(&db, &config_with_short_timeouts(db.url()))
            .await
            .is_err()
    );
    let mut other = db.connection().await;
    let locked = timeout(TIMEOUT, other.lock()).await;
    locked
        .expect("the failed migration must release the lock")
        .unwrap();
}
