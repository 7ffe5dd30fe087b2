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

/// How a statement reads `live_jobs` under a generic plan: each scan, and by what it is bounded.
async fn scans_of_live_jobs(
    db: &mut PgConnection,
    statement: &str,
    types: &str,
    arguments: &str,
) -> Vec<(String, String)> {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "set plan_cache_mode = force_generic_plan; deallocate all; prepare verb ({types}) as {statement}"
    )))
    .execute(&mut *db)
    .await
    .unwrap();
    let plan = run(db, format!("explain execute verb ({arguments})")).await;
    let mut lines = plan
        .iter()
        .map(|line| line.trim_start_matches([' ', '-', '>']))
        .peekable();
    let mut scans = Vec::new();
    while let Some(line) = lines.next() {
        if line.contains("Scan") && line.contains(" live_jobs") {
            let scan = line.split("  (cost").next().unwrap_or(line).to_owned();
            let by = lines.next_if(|line| line.contains(" Cond: "));
            scans.push((scan, by.unwrap_or_default().to_owned()));
        }
    }
    scans
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

#[tokio::test]
async fn claim_walks_a_full_queue_in_order_by_its_index() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    for _ in 0..4 {
        let jobs: Vec<_> = (0..2_000).map(|_| given::job(&model, "any")).collect();
        queue::enqueue(&db, &jobs).await.unwrap();
    }
    sqlx::query("vacuum analyze live_jobs")
        .execute(&*db)
        .await
        .unwrap();
    claims_by_index(&db).await;
}

async fn claims_by_index(db: &given::Database) {
    let mut db = db.connection().await;
    let types = "bigint, text[], bigint, bigint[], smallint[], smallint[], bigint[]";
    let arguments = "1, '{}', 10, '{}', '{}', '{}', '{}'";
    let scans = scans_of_live_jobs(&mut db, CLAIM, types, arguments).await;
    let [(walk, bounds), (update, by)] = &scans[..] else {
        panic!("{scans:?}");
    };
    assert_eq!(walk, "Index Scan using live_jobs_queued on live_jobs j_1");
    for bound in ["model_id = ", "priority <= ", "priority >= ", "seq > "] {
        assert!(bounds.contains(bound), "{bound} is no bound: {bounds}");
    }
    assert_eq!(update, "Tid Scan on live_jobs j");
    // Versions differ in which side they name first.
    assert!(by.starts_with("TID Cond: ("), "{by}");
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
        for (scan, _) in scans {
            let by_key = scan.starts_with("Index Scan using live_jobs_pkey");
            assert!(by_key, "{verb}: {scan}");
        }
    }
}
