//! The hot statements keep their index whatever the statistics say: a plan cached over an idle queue serves a full one.

use jobs::queue;
use sqlx::{AssertSqlSafe, PgConnection};
use tests::given;

const CLAIM: &str = include_str!("../../../jobs/src/queue/claim.sql");
const COMPLETE: &str = include_str!("../../../jobs/src/queue/complete.sql");
const FAIL: &str = include_str!("../../../jobs/src/queue/fail.sql");
const RETRY: &str = include_str!("../../../jobs/src/queue/retry.sql");
const RELEASE: &str = include_str!("../../../jobs/src/queue/release.sql");

async fn run(db: &mut PgConnection, statement: impl Into<String>) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(statement.into()))
        .persistent(false)
        .fetch_all(db)
        .await
        .unwrap()
}

/// How a statement reads `live_jobs` under a generic plan.
async fn scans_of_live_jobs(
    db: &mut PgConnection,
    statement: &str,
    types: &str,
    arguments: &str,
) -> Vec<String> {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "set plan_cache_mode = force_generic_plan; deallocate all; prepare verb ({types}) as {statement}"
    )))
    .execute(&mut *db)
    .await
    .unwrap();
    let plan = run(db, format!("explain execute verb ({arguments})")).await;
    let scans = plan
        .iter()
        .map(|line| line.trim_start_matches([' ', '-', '>']));
    let scans = scans.filter(|line| line.contains("Scan") && line.contains(" live_jobs"));
    scans
        .map(|line| line.split("  (cost").next().unwrap_or(line).to_owned())
        .collect()
}

/// A queue that was filled, drained, and then seen empty by autovacuum.
async fn drained_queue() -> given::Database {
    let drained = given::database().await;
    let model = given::model_version(&drained, given::MODEL).await;
    let jobs: Vec<_> = (0..2_000).map(|_| given::job(&model, "any")).collect();
    queue::enqueue(&drained, &jobs).await.unwrap();
    for statement in ["delete from live_jobs", "vacuum analyze live_jobs"] {
        sqlx::query(statement).execute(&*drained).await.unwrap();
    }
    drained
}

#[tokio::test]
async fn claim_walks_a_new_queue_in_order_by_its_index() {
    let db = given::database().await;
    claims_by_index(&db).await;
}

#[tokio::test]
async fn claim_walks_a_drained_queue_in_order_by_its_index() {
    let db = drained_queue().await;
    claims_by_index(&db).await;
}

async fn claims_by_index(db: &given::Database) {
    let mut db = db.connection().await;
    let scans = scans_of_live_jobs(&mut db, CLAIM, "bigint, text[], bigint", "1, '{}', 10").await;
    let by_index = [
        "Index Scan using live_jobs_queued on live_jobs j_1",
        "Index Scan using live_jobs_pkey on live_jobs j",
    ];
    assert_eq!(scans, by_index);
}

/// Not of a new queue: until it is analyzed for the first time it is small enough for any plan.
#[tokio::test]
async fn writes_by_workers_find_their_jobs_by_primary_key() {
    let db = drained_queue().await;
    let mut db = db.connection().await;
    let (complete, fault) = (
        "uuid[], int[], jsonb[], jsonb[], smallint[], smallint[]",
        "uuid[], int[], jsonb[]",
    );
    for (verb, statement, types) in [
        ("complete", COMPLETE, complete),
        ("fail", FAIL, fault),
        ("retry", RETRY, fault),
        ("release", RELEASE, "uuid[], int[]"),
    ] {
        let arguments = vec!["'{}'"; types.split(',').count()].join(", ");
        let scans = scans_of_live_jobs(&mut db, statement, types, &arguments).await;
        assert!(!scans.is_empty(), "{verb}");
        for scan in scans {
            let by_key = scan.starts_with("Index Scan using live_jobs_pkey");
            assert!(by_key, "{verb}: {scan}");
        }
    }
}
