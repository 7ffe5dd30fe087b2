//! Connections that lead nowhere, and nobody was told: each costs a while, and nobody waits for it for good.

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

/// For what is bounded by a second or a few.
const AT_MOST: Duration = Duration::from_secs(20);

fn impatient(url: &str) -> DbConfig {
    DbConfig {
        database_url: Secret::new(url),
        database_direct_url: None,
        db_connections_max: 4,
        db_acquire_timeout_ms: 5_000,
        db_statement_timeout_ms: 1_000,
        no_migrate: false,
    }
}

async fn behind_a_proxy() -> (given::Database, Proxy, Db) {
    let db = given::database().await;
    let mut url = reqwest::Url::parse(db.url()).unwrap();
    let proxy = Proxy::start(Protocol::Postgres, url.port().unwrap()).await;
    url.set_port(Some(proxy.port())).unwrap();
    let pool = Db::connect(&impatient(url.as_str()), "stranded").unwrap();
    (db, proxy, pool)
}

/// A pool of two connections that lead nowhere, used a moment ago or longer.
async fn strands(idle_seconds: f64) -> (given::Database, Proxy, Db) {
    let (db, proxy, pool) = behind_a_proxy().await;
    let used = futures_util::future::join_all((0..2).map(|_| pool.acquire())).await;
    drop(used);
    let idle = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                and state = 'idle' and application_name = 'stranded' and state_change < now() - make_interval(secs => $1)";
    tests::eventually(AT_MOST, "both are in the pool", || async {
        let idle = sqlx::query_scalar(idle).bind(idle_seconds);
        let idle: i64 = idle.fetch_one(&*db).await.unwrap();
        (idle == 2 && pool.num_idle() == 2).then_some(())
    })
    .await;
    assert_eq!(proxy.make_half_open(), 2);
    (db, proxy, pool)
}

async fn leads_there(connection: &mut PgConnection) -> bool {
    let one = sqlx::query("select 1").execute(connection);
    timeout(AT_MOST, one).await.expect("it leads there").is_ok()
}

#[tokio::test]
async fn a_connection_to_keep_is_found_in_a_pool_whose_last_ones_lead_nowhere() {
    let (_db, _proxy, pool) = strands(0.0).await;
    let kept = StatementPool::with_one_plan(pool);
    let lent = timeout(AT_MOST, kept.take()).await;
    let mut lent = lent.expect("nobody waits for good").unwrap();
    assert!(leads_there(&mut lent).await);
}

#[tokio::test]
async fn connections_that_were_idle_and_lead_nowhere_do_not_use_up_the_time_to_find_another() {
    let (_db, _proxy, pool) = strands(1.5).await;
    let mut connection = pool.acquire().await.expect("there is time for both");
    assert!(leads_there(&mut connection).await);
}

#[tokio::test]
async fn news_are_told_again_after_a_connection_that_led_nowhere() {
    let (db, proxy, pool) = behind_a_proxy().await;
    let mut listener = PgListener::connect(db.url()).await.unwrap();
    listener.listen("darkroom_queued").await.unwrap();
    let notifier = Notifier::start(pool);
    notifier.queued(1);
    let heard = timeout(AT_MOST, listener.recv()).await.unwrap().unwrap();
    assert_eq!(heard.payload(), "1");
    assert_eq!(proxy.make_half_open(), 1);
    notifier.queued(2); // is lost: who waits polls
    let told_again = async {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                _ = every.tick() => notifier.queued(3),
                heard = listener.recv() => return heard.unwrap(),
            }
        }
    };
    assert!(timeout(AT_MOST, told_again).await.is_ok());
}

#[tokio::test]
async fn a_process_starts_although_another_hangs_in_its_migrations() {
    let db = given::database().await;
    let mut other = db.connection().await;
    other.lock().await.unwrap();
    let migrated = timeout(AT_MOST, db::migrate(&db, &impatient(db.url()))).await;
    migrated.expect("nothing is missing").unwrap();
}

#[tokio::test]
async fn a_migration_that_failed_leaves_no_lock_behind() {
    let db = given::database().await;
    sqlx::query("update _sqlx_migrations set success = false where version = 1")
        .execute(&*db)
        .await
        .unwrap();
    assert!(db::migrate(&db, &impatient(db.url())).await.is_err());
    let mut other = db.connection().await;
    let locked = timeout(AT_MOST, other.lock()).await;
    locked.expect("the lock is free").unwrap();
}
