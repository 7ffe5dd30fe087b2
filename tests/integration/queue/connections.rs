//! Connections that return to the pool, and connections that the statement pool keeps prepared.
//!
//! A `begin` that is dropped before its answer may leave its connection inside a transaction (sqlx #4393).

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use jobs::db::{PooledConnection, StatementPool};
use sqlx::PgConnection;
use tests::given;
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

/// The fault is rare: without the pool's `after_release` this test usually passes. The next test then fails every time.
#[tokio::test(flavor = "multi_thread")]
async fn after_many_canceled_begins_every_connection_is_healthy() {
    let db = given::database().await;
    let pool = db.another_pool();
    sqlx::query("create table probe (n int)")
        .execute(&*db)
        .await
        .unwrap();
    let mut canceled = 0;
    for round in 0..3_000_u64 {
        // The timeouts range from before the BEGIN is sent to after its answer arrives.
        let timeout = Duration::from_micros(round * 7 % 900);
        let begin = tokio::time::timeout(timeout, pool.begin());
        canceled += u32::from(begin.await.is_err());
    }
    assert!(
        canceled > 20,
        "only {canceled} begins were canceled, too few for this test"
    );
    // Takes every connection of the pool. Each insert must be committed without a `commit`.
    let connections_max = pool.options().get_max_connections();
    let mut connections = join_all((0..connections_max).map(|_| pool.acquire())).await;
    for connection in &mut connections {
        let connection = connection.as_mut().unwrap();
        sqlx::query("insert into probe values (1)")
            .execute(&mut **connection)
            .await
            .unwrap();
    }
    let committed: i64 = sqlx::query_scalar("select count(*) from probe")
        .fetch_one(&*db)
        .await
        .unwrap();
    assert_eq!(committed, i64::from(connections_max));
}

#[tokio::test]
async fn a_transaction_left_open_is_rolled_back_when_its_connection_returns() {
    let db = given::database().await;
    let pool = db.another_pool();
    let mut connection = pool.acquire().await.unwrap();
    // A lost BEGIN leaves such a transaction, which is unknown to the driver.
    sqlx::raw_sql("begin; create table probe (n int)")
        .execute(&mut *connection)
        .await
        .unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    drop(connection);
    tests::eventually(
        Duration::from_secs(10),
        "the connection is idle again",
        || async {
            let state: Option<String> =
                sqlx::query_scalar("select state from pg_stat_activity where pid = $1")
                    .bind(pid)
                    .fetch_one(&*db)
                    .await
                    .unwrap();
            (state.as_deref() == Some("idle")).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_failed_transaction_is_rolled_back_when_its_connection_returns() {
    let db = given::database().await;
    let pool = db.another_pool();
    let mut connection = pool.acquire().await.unwrap();
    let failed = sqlx::raw_sql("begin; select 1/0").execute(&mut *connection);
    failed.await.unwrap_err();
    drop(connection);
    let connections_max = pool.options().get_max_connections();
    for mut connection in join_all((0..connections_max).map(|_| pool.acquire())).await {
        let connection = &mut **connection.as_mut().unwrap();
        sqlx::query("select 1").execute(connection).await.unwrap();
    }
}

/// Counts the notices and warnings of the server.
struct Notices(&'static AtomicUsize);

impl Subscriber for Notices {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::postgres::notice"
    }
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn the_return_of_a_connection_causes_no_server_warning() {
    static NOTICES: AtomicUsize = AtomicUsize::new(0);
    tracing::subscriber::set_global_default(Notices(&NOTICES)).unwrap(); // each test has its own process
    let db = given::database().await;
    let pool = db.another_pool();
    let mut connection = pool.acquire().await.unwrap();
    let first_pid = pid(&mut connection).await;
    let show_warnings = sqlx::raw_sql("set client_min_messages = warning");
    show_warnings.execute(&mut *connection).await.unwrap();
    NOTICES.store(0, Ordering::Relaxed); // notices from the creation of the database
    let needless = sqlx::raw_sql("rollback");
    needless.execute(&mut *connection).await.unwrap();
    assert_eq!(
        NOTICES.swap(0, Ordering::Relaxed),
        1,
        "the counter must see a warning"
    );
    drop(connection);
    tests::eventually(
        Duration::from_secs(10),
        "the connection is in the pool again",
        || async {
            let mut connection = pool.acquire().await.unwrap();
            (pid(&mut connection).await == first_pid).then_some(())
        },
    )
    .await;
    assert_eq!(NOTICES.load(Ordering::Relaxed), 0);
}

async fn pid(connection: &mut PgConnection) -> i32 {
    let pid = sqlx::query_scalar("select pg_backend_pid()");
    pid.fetch_one(connection).await.unwrap()
}

async fn plan_cache_mode(connection: &mut PgConnection) -> String {
    let plan_cache_mode = sqlx::query_scalar("show plan_cache_mode");
    plan_cache_mode.fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_returned_connection_serves_the_next_statement_with_one_plan() {
    let db = given::database().await;
    let statement_pool = StatementPool::with_one_plan(db.another_pool());
    let mut first = statement_pool.take().await.unwrap();
    let first_pid = pid(&mut first).await;
    first.give_back();
    let mut second = statement_pool.take().await.unwrap();
    assert_eq!(pid(&mut second).await, first_pid);
    assert_eq!(plan_cache_mode(&mut second).await, "force_generic_plan");
}

#[tokio::test]
async fn a_dropped_connection_returns_to_the_pool_without_its_settings() {
    let db = given::database().await;
    let statement_pool = StatementPool::by_keys(db.another_pool());
    let mut lent = statement_pool.take().await.unwrap();
    let first_pid = pid(&mut lent).await;
    drop(lent);
    let connections = || async {
        let mut connection = statement_pool.pool().acquire().await.unwrap();
        let is_first = pid(&mut connection).await == first_pid;
        is_first.then_some(connection)
    };
    let mut connection = tests::eventually(
        Duration::from_secs(10),
        "the connection is in the pool",
        connections,
    )
    .await;
    assert_eq!(plan_cache_mode(&mut connection).await, "auto");
}

#[tokio::test]
async fn a_dead_connection_fails_one_statement_and_is_replaced() {
    let db = given::database().await;
    let statement_pool = StatementPool::with_one_plan(db.another_pool());
    let mut lent = statement_pool.take().await.unwrap();
    let dead = pid(&mut lent).await;
    lent.give_back();
    sqlx::query("select pg_terminate_backend($1, 10000)")
        .bind(dead)
        .execute(&*db)
        .await
        .unwrap();
    let mut lent = statement_pool.take().await.unwrap();
    let answer = sqlx::query("select 1").execute(&mut *lent).await;
    assert!(answer.is_err());
    drop(lent);
    assert_ne!(pid(&mut statement_pool.take().await.unwrap()).await, dead);
}

/// The API has two statement pools. Together they must leave connections for other statements.
#[tokio::test]
async fn two_statement_pools_leave_a_third_of_the_connections() {
    let db = given::database().await;
    let pool = db.another_pool();
    let connections_max = pool.options().get_max_connections() as usize;
    let statement_pools = [
        StatementPool::with_one_plan(pool.clone()),
        StatementPool::by_keys(pool.clone()),
    ];
    let take_half = |statement_pool: &StatementPool| {
        join_all(
            (0..connections_max / 2)
                .map(|_| statement_pool.clone())
                .map(async |statement_pool| statement_pool.take().await.unwrap()),
        )
    };
    let lent = join_all(statement_pools.iter().map(take_half)).await;
    lent.into_iter()
        .flatten()
        .for_each(PooledConnection::give_back);
    let rest = join_all((0..connections_max / 3).map(|_| pool.acquire())).await;
    assert!(rest.iter().all(Result::is_ok));
}
