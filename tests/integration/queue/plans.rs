//! Frequent statements use their index with any statistics: a plan cached for an empty queue also serves a full queue.

use jobs::{db::StatementPool, queue};
use sqlx::{AssertSqlSafe, PgConnection};
use tests::{given, mutant::statement_in};

const CLAIM: &str = include_str!("../../../jobs/src/queue/claim.sql");
const ENQUEUE: &str = include_str!("../../../jobs/src/queue/enqueue.sql");
const JOB: &str = include_str!("../../../jobs/src/job.rs");
const FIND: &str = include_str!("../../../jobs/src/queue/find.rs");
const DELIVERIES: &str = include_str!("../../../jobs/src/webhooks/claim.sql");
const PREDICTED: &str = include_str!("../../../jobs/src/queue/matching_job.sql");

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

/// Each scan of `table` or its partitions in the generic plan of `statement`, with the condition of the scan.
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
            let condition = lines.next_if(|line| line.contains(" Cond: "));
            scans.push((scan, condition.unwrap_or_default().to_owned()));
        }
    }
    scans
}

/// A queue that was filled, emptied and then vacuumed.
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
async fn claim_reads_a_new_queue_in_index_order() {
    let db = given::database().await;
    assert_claim_reads_by_index(&db).await;
}

#[tokio::test]
async fn claim_reads_a_drained_queue_in_index_order() {
    let db = drained_queue().await;
    assert_claim_reads_by_index(&db).await;
}

#[tokio::test]
async fn claim_reads_a_full_queue_in_index_order() {
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
    assert_claim_reads_by_index(&db).await;
}

async fn assert_claim_reads_by_index(db: &given::Database) {
    let mut db = db.connection().await;
    let types = "bigint, text[], bigint, bigint[], smallint[], smallint[], bigint[], smallint";
    let arguments = "1, '{}', 10, '{}', '{}', '{}', '{}', 32767";
    let scans = scans_of_live_jobs(&mut db, CLAIM, types, arguments).await;
    let [(index_scan, bounds), (update, condition)] = &scans[..] else {
        panic!("{scans:?}");
    };
    assert_eq!(
        index_scan,
        "Index Scan using live_jobs_queued on live_jobs j"
    );
    for bound in ["model_id = ", "priority <= ", "priority >= ", "seq > "] {
        assert!(
            bounds.contains(bound),
            "the index condition must contain {bound}: {bounds}"
        );
    }
    assert_eq!(update, "Tid Scan on live_jobs j_1");
    // The order of the two sides depends on the version of Postgres.
    assert!(condition.starts_with("TID Cond: ("), "{condition}");
}

/// The statement inside the function `settle`, with numbered parameters.
async fn statement_of_settle(db: &mut PgConnection) -> String {
    let source = run(db, "select prosrc from pg_proc where proname = 'settle'").await;
    let (_, statement) = source[0].split_once("return query").unwrap();
    let (statement, _) = statement.split_once("get diagnostics").unwrap();
    let statement = statement.trim().trim_end_matches(';');
    let parameters = [
        ("job_ids, lease_nos, outcomes, problems", "$1, $2, $3, $4"),
        ("last_problems, results, settle.timings", "$5, $6, $7"),
        ("forward_batch_sizes, forward_batch_positions", "$8, $9"),
        ("settle.input_warnings", "$10"),
    ];
    let numbered = parameters.iter();
    numbered.fold(statement.to_owned(), |statement, (names, numbers)| {
        statement.replace(names, numbers)
    })
}

#[tokio::test]
async fn settle_finds_jobs_by_primary_key() {
    let types =
        "uuid[], int[], text[], jsonb[], jsonb[], jsonb[], jsonb[], smallint[], smallint[], text[]";
    let arguments = ["'{}'"; 10].join(", ");
    for db in [given::database().await, drained_queue().await] {
        let mut db = db.connection().await;
        let settings = "select 'set ' || c from pg_proc, unnest(proconfig) c where proname = 'settle' and c not like 'search_path%'";
        for setting in run(&mut db, settings).await {
            run(&mut db, setting).await;
        }
        let statement = statement_of_settle(&mut db).await;
        let scans = scans_of_live_jobs(&mut db, &statement, types, &arguments).await;
        let (by_place, by_key): (Vec<_>, Vec<_>) = scans
            .iter()
            .partition(|(scan, _)| scan.starts_with("Tid Scan on"));
        assert_eq!(by_place.len(), 2, "one update and one delete: {scans:?}");
        assert_eq!(by_key.len(), 2, "one look-up for each: {scans:?}");
        for (scan, condition) in by_key {
            let is_by_key = scan.starts_with("Index Scan using live_jobs_pkey");
            assert!(
                is_by_key && condition.contains("(job_id = "),
                "{scan} {condition}"
            );
        }
    }
}

/// All plans cost the same for an empty table, and the chosen plan stays when the table is full.
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
            let found: Vec<_> = scans.map(|(at, _)| plan[at + 1].trim()).collect();
            assert!(!found.is_empty(), "the plan must read {table}");
            found
        };
        for (table, key) in [
            ("live_jobs", "job_id = asked.id"),
            ("finished_jobs", "job_id = asked.id"),
            ("images", "sha256 = j"),
            ("model_versions", "model_version_id = j"),
        ] {
            for condition in conditions(table) {
                let is_by_key = condition.starts_with("Index Cond: ") && condition.contains(key);
                assert!(is_by_key, "{table}: {condition}\n{}", plan.join("\n"));
            }
        }
    }
}

#[tokio::test]
async fn enqueue_reads_live_jobs_only_by_the_queue_index() {
    for db in [given::database().await, drained_queue().await] {
        let mut db = db.connection().await;
        let parameters = (1..).take_while(|number| ENQUEUE.contains(&format!("${number}::")));
        let parameters = parameters.count();
        let types = vec!["unknown"; parameters].join(", ");
        let arguments = vec!["'{}'"; parameters].join(", ");
        let scans = scans_of_live_jobs(&mut db, ENQUEUE, &types, &arguments).await;
        let [(scan, condition)] = &scans[..] else {
            panic!("{scans:?}");
        };
        assert!(scan.contains("Scan using live_jobs_queued"), "{scan}");
        assert!(
            condition.contains("model_id = ") && condition.contains("priority = "),
            "{condition}"
        );
    }
}

#[tokio::test]
async fn a_matching_job_is_looked_up_by_job_id() {
    let types = "uuid[], text, bigint, jsonb, jsonb, float8, smallint, smallint";
    for db in [given::database().await, drained_queue().await] {
        let mut db = db.connection().await;
        for table in ["live_jobs", "finished_jobs"] {
            let arguments = "'{}', 'alice', 1, '{}', '{}', 1, 0, 1";
            let scans = scans_of(table, &mut db, PREDICTED, types, arguments).await;
            assert!(!scans.is_empty(), "{table}");
            for (scan, condition) in scans {
                let is_by_key =
                    scan.starts_with("Index Scan using") && condition.contains("(job_id = ");
                assert!(is_by_key, "{scan} {condition}");
            }
        }
    }
}

/// A claim of deliveries looks at many destinations: each look must be a few steps in an index, also with a plan for an empty table.
#[tokio::test]
async fn a_claim_of_deliveries_reads_by_index() {
    let types = "bigint, int, int, text[], text[], int[], float8, text, text";
    let arguments = "32, 8, 16, '{}', '{}', '{}', 40, '', ''";
    let db = given::database().await;
    let mut db = db.connection().await;
    let table = "webhook_deliveries";
    let scans = scans_of(table, &mut db, DELIVERIES, types, arguments).await;
    let of_destinations = |(scan, condition): &&(String, String)| {
        scan.contains("using webhook_deliveries_by_destination") && condition.contains("owner")
    };
    assert_eq!(
        scans.iter().filter(of_destinations).count(),
        4,
        "{scans:#?}"
    );
    let rest = scans.iter().filter(|scan| !of_destinations(scan));
    for (scan, condition) in rest {
        let is_by_key = scan.contains("using webhook_deliveries_pkey");
        let is_by_time = scan.contains("webhook_deliveries_due");
        assert!(is_by_key || is_by_time, "{scan} {condition}");
    }
}
