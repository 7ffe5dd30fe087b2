//! The hot statements keep their index whatever the statistics say: a plan cached over an idle queue serves a full one.

use jobs::{db::StatementPool, queue};
use sqlx::{AssertSqlSafe, PgConnection};
use tests::{given, mutant::statement_in};

const CLAIM: &str = include_str!("../../../jobs/src/queue/claim.sql");
const ENQUEUE: &str = include_str!("../../../jobs/src/queue/enqueue.sql");
const JOB: &str = include_str!("../../../jobs/src/job.rs");
const FIND: &str = include_str!("../../../jobs/src/queue/find.rs");
const PREDICTED: &str = include_str!("../../../jobs/src/queue/predicted.sql");

async fn run(db: &mut PgConnection, statement: impl Into<String>) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(statement.into()))
        .persistent(false)
        .fetch_all(db)
        .await
        .unwrap()
}

async fn scans_of_live_jobs(
    db: &mut PgConnection,
    statement: &str,
    types: &str,
    arguments: &str,
) -> Vec<(String, String)> {
    scans_of("live_jobs", db, statement, types, arguments).await
}

/// How a statement reads a table, or its partitions, under a generic plan: each scan, and by what it is bounded.
async fn scans_of(
    table: &str,
    db: &mut PgConnection,
    statement: &str,
    types: &str,
    arguments: &str,
) -> Vec<(String, String)> {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "{}; deallocate all; prepare verb ({types}) as {statement}",
        StatementPool::ONE_PLAN
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
        if line.contains("Scan") && line.contains(&format!(" {table}")) {
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
    assert_eq!(walk, "Index Scan using live_jobs_queued on live_jobs j");
    for bound in ["model_id = ", "priority <= ", "priority >= ", "seq > "] {
        assert!(bounds.contains(bound), "{bound} is no bound: {bounds}");
    }
    assert_eq!(update, "Tid Scan on live_jobs j_1");
    // Versions differ in which side they name first.
    assert!(by.starts_with("TID Cond: ("), "{by}");
}

/// The statement inside the function, with its parameters by number.
async fn statement_of_settle(db: &mut PgConnection) -> String {
    let source = run(db, "select prosrc from pg_proc where proname = 'settle'").await;
    let statement = source[0].split("return query").nth(1).unwrap();
    let statement = statement.split("get diagnostics").next().unwrap();
    let (before, after) = statement.split_once("unnest(job_ids").unwrap();
    let (_, after) = after.split_once(')').unwrap();
    let statement = format!("{before}unnest($1, $2, $3, $4, $5, $6, $7, $8, $9){after}");
    statement.trim().trim_end_matches(';').to_owned()
}

#[tokio::test]
async fn settling_finds_jobs_by_primary_key() {
    let types = "uuid[], int[], text[], jsonb[], jsonb[], jsonb[], jsonb[], smallint[], smallint[]";
    let arguments = ["'{}'"; 9].join(", ");
    for db in [given::database().await, drained_queue().await] {
        let mut db = db.connection().await;
        let statement = statement_of_settle(&mut db).await;
        let mut scans = scans_of_live_jobs(&mut db, &statement, types, &arguments).await;
        let by_place = scans.extract_if(.., |(scan, _)| scan.starts_with("Tid Scan on"));
        let places: Vec<_> = by_place.collect();
        assert_eq!(places.len(), 2, "one for each way out: {scans:?}");
        let [(scan, by)] = &scans[..] else {
            panic!("{scans:?}");
        };
        let by_key = scan.starts_with("Index Scan using live_jobs_pkey");
        assert!(by_key && by.contains("(job_id = "), "{scan} {by}");
    }
}

/// Over an empty table all plans cost the same, and the one that is made stays when it has filled.
#[tokio::test]
async fn a_look_up_reads_each_table_by_its_keys() {
    // The columns of `query_jobs!`.
    let (_, columns) = JOB.split_once("r#\"").unwrap();
    let (columns, _) = columns.split_once("\"#").unwrap();
    let from = statement_in(FIND, "from unnest($1::uuid[]");
    for db in [given::database().await, drained_queue().await] {
        let mut db = db.connection().await;
        sqlx::raw_sql(AssertSqlSafe(format!(
            "{}; prepare look_up (uuid[], text[]) as {columns} {from}",
            StatementPool::BY_KEYS
        )))
        .execute(&mut db)
        .await
        .unwrap();
        let plan = run(&mut db, "explain execute look_up ('{}', '{}')").await;
        let conditions = |table: &str| {
            let scans = plan.iter().enumerate();
            let scans = scans.filter(|(_, line)| line.contains(&format!(" on {table}")));
            let by: Vec<_> = scans.map(|(at, _)| plan[at + 1].trim()).collect();
            assert!(!by.is_empty(), "{table} is not read");
            by
        };
        for (table, key) in [
            ("live_jobs", "job_id = asked.id"),
            ("finished_jobs", "job_id = asked.id"),
            ("images", "sha256 = j"),
            ("model_versions", "model_version_id = j"),
        ] {
            for by in conditions(table) {
                let by_key = by.starts_with("Index Cond: ") && by.contains(key);
                assert!(by_key, "{table}: {by}\n{}", plan.join("\n"));
            }
        }
    }
}

#[tokio::test]
async fn a_submit_reads_the_queue_only_for_its_first_place() {
    for db in [given::database().await, drained_queue().await] {
        let mut db = db.connection().await;
        let parameters = (1..).take_while(|number| ENQUEUE.contains(&format!("${number}::")));
        let parameters = parameters.count();
        let types = vec!["unknown"; parameters].join(", ");
        let arguments = vec!["'{}'"; parameters].join(", ");
        let scans = scans_of_live_jobs(&mut db, ENQUEUE, &types, &arguments).await;
        let [(scan, by)] = &scans[..] else {
            panic!("{scans:?}");
        };
        assert!(scan.contains("Scan using live_jobs_queued"), "{scan}");
        assert!(
            by.contains("model_id = ") && by.contains("priority = "),
            "{by}"
        );
    }
}

#[tokio::test]
async fn a_prediction_is_looked_up_by_the_ids_that_its_image_names() {
    let types = "uuid[], text, bigint, jsonb, jsonb, float8, smallint, smallint";
    for db in [given::database().await, drained_queue().await] {
        let mut db = db.connection().await;
        for table in ["live_jobs", "finished_jobs"] {
            let arguments = "'{}', 'alice', 1, '{}', '{}', 1, 0, 1";
            let scans = scans_of(table, &mut db, PREDICTED, types, arguments).await;
            assert!(!scans.is_empty(), "{table}");
            for (scan, by) in scans {
                let by_key = scan.starts_with("Index Scan using") && by.contains("(job_id = ");
                assert!(by_key, "{scan} {by}");
            }
        }
    }
}
