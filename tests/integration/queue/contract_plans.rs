//! The tables that statements over `ops` read; the cost of each statement depends on these tables.

use jobs::queue;
use sqlx::{AssertSqlSafe, PgConnection};
use tests::given;

/// The tables that the plan of `statement` reads.
async fn tables_read(db: &mut PgConnection, statement: &str) -> Vec<String> {
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("explain {statement}")))
        .persistent(false)
        .fetch_all(db)
        .await
        .unwrap();
    let mut tables: Vec<_> = plan
        .iter()
        .filter(|line| line.contains("Scan") && !line.contains("Bitmap Index Scan"))
        .filter_map(|line| line.split(" on ").nth(1))
        .map(|rest| rest.split(' ').next().unwrap().to_owned())
        .collect();
    tables.sort();
    tables.dedup();
    tables
}

fn partitions_of_the_archive(tables: &[String]) -> Vec<&String> {
    let archive = tables.iter();
    archive
        .filter(|table| table.starts_with("finished_jobs"))
        .collect()
}

#[tokio::test]
async fn a_look_up_by_id_reads_live_jobs_and_one_partition() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let today: String = sqlx::query_scalar(
        "select to_char(now() at time zone 'UTC', '\"finished_jobs_\"YYYYMMDD')",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    let mut connection = db.connection().await;
    for id in [format!("'{}'", cat.uuid()), format!("ops.job_id('{cat}')")] {
        let tables = tables_read(
            &mut connection,
            &format!("select * from ops.jobs where job_id = {id}"),
        )
        .await;
        assert!(tables.contains(&"live_jobs".to_owned()), "{tables:?}");
        assert_eq!(partitions_of_the_archive(&tables), [&today], "{tables:?}");
    }
}

#[tokio::test]
async fn a_count_by_state_reads_no_finished_job() {
    let db = given::database().await;
    let mut connection = db.connection().await;
    let count = "select model, sum(queued), sum(running), sum(scheduled), max(oldest_age_seconds) from ops.queue group by model";
    let tables = tables_read(&mut connection, count).await;
    assert!(tables.contains(&"live_jobs".to_owned()), "{tables:?}");
    assert!(partitions_of_the_archive(&tables).is_empty(), "{tables:?}");
    let rates = tables_read(&mut connection, "select * from ops.queue").await;
    assert!(
        !partitions_of_the_archive(&rates).is_empty(),
        "this test must see partitions in a plan that reads them: {rates:?}"
    );
}

#[tokio::test]
async fn usage_and_errors_read_no_finished_job() {
    let db = given::database().await;
    let mut connection = db.connection().await;
    for view in ["ops.usage", "ops.errors"] {
        let tables = tables_read(&mut connection, &format!("select * from {view}")).await;
        assert!(tables.contains(&"ended_counts".to_owned()), "{tables:?}");
        assert!(
            partitions_of_the_archive(&tables).is_empty(),
            "{view}: {tables:?}"
        );
    }
}

/// The archive has a partition for each day of a month. A rate needs only the days that may hold recent ends.
#[tokio::test]
async fn rates_read_only_the_partitions_of_the_last_days() {
    let db = given::database().await;
    sqlx::raw_sql(
        "do $$ declare day date; begin
             for day in select generate_series(current_date - 30, current_date - 1, interval '1 day') loop
                 execute format('create table if not exists %I partition of finished_jobs for values from (%L) to (%L)', to_char(day, '\"finished_jobs_\"YYYYMMDD'),
                     uuid_from_time(day::timestamp at time zone 'UTC'), uuid_from_time((day + 1)::timestamp at time zone 'UTC'));
             end loop;
         end $$",
    )
    .execute(&*db)
    .await
    .unwrap();
    let [cat] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    let mut connection = db.connection().await;
    // What ops.latency reads of the archive.
    let latencies: String =
        sqlx::query_scalar("select prosrc from pg_proc where proname = 'stage_latencies'")
            .fetch_one(&*db)
            .await
            .unwrap();
    let latencies = latencies
        .replace("of_model", "1")
        .replace("period_start", "latency_period(now())");
    for statement in [
        "select * from ops.queue",
        "select * from ops.scaling",
        &latencies,
    ] {
        // Postgres knows the bounds by now() only at the start of the execution, so the plan must run.
        let tables = tables_read(
            &mut connection,
            &format!("(analyze, costs off, timing off, summary off) {statement}"),
        )
        .await;
        let archive = partitions_of_the_archive(&tables);
        assert!((1..=8).contains(&archive.len()), "{statement}: {archive:?}");
    }
    assert!(queue::find(&db, cat, given::OWNER).await.unwrap().is_some());
}
