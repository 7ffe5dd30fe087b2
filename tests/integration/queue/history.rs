//! Usage, errors and latency are counted as jobs end. The views equal the finished jobs at any moment.

use jobs::{JobId, Problem, ProblemCode, queue};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tests::{Database, given};

const USAGE: &str = "select f.owner, m.name as model, (f.finished_at at time zone 'UTC')::date as day, count(*) as jobs,
        count(*) filter (where f.state = 'succeeded') as succeeded, coalesce(sum(i.bytes), 0)::bigint as image_bytes,
        round(coalesce(sum((f.timings ->> 'infer')::float8 / greatest(f.forward_batch_size, 1)) / 1000, 0)::numeric, 3) as infer_seconds,
        round(coalesce(sum(extract(epoch from f.finished_at - f.claimed_at)), 0), 3) as attempt_seconds
    from finished_jobs f join models m using (model_id) left join images i on i.owner = f.owner and i.sha256 = f.image_sha256
    group by 1, 2, 3";
const USAGE_VIEW: &str =
    "select owner, model, day, jobs, succeeded, image_bytes, round(infer_seconds::numeric, 3),
        round(attempt_seconds::numeric, 3) from ops.usage";
const ERRORS: &str = "select f.problem ->> 'code' as code, m.name as model, (f.finished_at at time zone 'UTC')::date as day,
        f.state::text as status, count(*) as jobs, max(f.finished_at) as latest_at, max(ops.job_name(f.job_id)) as example
    from finished_jobs f join models m using (model_id) where f.state in ('failed', 'expired') group by 1, 2, 3, 4";
const ERRORS_VIEW: &str =
    "select code, model, day, status, jobs, latest_at, example from ops.errors";
const LATENCY: &str = "select m.name, stage.key, date_bin('5 minutes', f.finished_at, '2000-01-01 00:00:00+00'), count(*),
        percentile_cont(0.5) within group (order by stage.value::float8), percentile_cont(0.99) within group (order by stage.value::float8),
        max(stage.value::float8)
    from finished_jobs f join models m using (model_id)
    cross join lateral jsonb_each_text(with_waits(f.timings, f.created_at, f.run_at, f.claimed_at, f.finished_at)) stage
    where f.state = 'succeeded' group by 1, 2, 3";
const LATENCY_VIEW: &str =
    "select model, stage, period, jobs, p50_ms, p99_ms, max_ms from ops.latency";

/// The rows that only one of two queries has, as text.
async fn differences(db: &PgPool, one: &str, other: &str) -> Vec<String> {
    let both = format!(
        "with one as ({one}), other as ({other})
         select to_jsonb(d)::text from (
             (select 'only the first' as place, o.* from (select * from one except all select * from other) o)
             union all
             (select 'only the second', o.* from (select * from other except all select * from one) o)) d"
    );
    let rows = sqlx::query_scalar(AssertSqlSafe(both));
    rows.fetch_all(db).await.unwrap()
}

async fn assert_views_equal_the_jobs(db: &PgPool, when: &str) {
    for (jobs, view) in [
        (USAGE, USAGE_VIEW),
        (ERRORS, ERRORS_VIEW),
        (LATENCY, LATENCY_VIEW),
    ] {
        let differ = differences(db, jobs, view).await;
        assert!(differ.is_empty(), "{when}: {differ:#?}");
    }
}

async fn fold(db: &PgPool) {
    while queue::fold_history(db).await.unwrap() > 0 {}
}

async fn complete_a_job(db: &Database, name: &str, timings: Value) -> JobId {
    let [id] = given::queued(db, [name]).await;
    let held = given::claimed_by(db, "w").await;
    let mut prediction = given::prediction(json!({ "answer": name }));
    prediction.timings = timings;
    let done = given::succeeded(held.lease(), prediction);
    tests::settling::complete(db, &[done]).await.unwrap();
    id
}

async fn fail_a_job(db: &Database, name: &str, code: ProblemCode) -> JobId {
    let [id] = given::queued(db, [name]).await;
    let held = given::claimed_by(db, "w").await;
    let problem = Problem::new(code, "made up");
    tests::settling::fail(db, &[(held.lease(), problem)])
        .await
        .unwrap();
    id
}

/// Adds a job like a job that succeeded, which ended so many minutes ago, as a transaction of `db` that began then.
async fn add_a_late_job(db: &PgPool, minutes: i32) {
    sqlx::query(
        "with late as (
         insert into finished_jobs
         select (jsonb_populate_record(f, jsonb_build_object('job_id', new_job_id(), 'created_at', f.created_at - ago, 'run_at', f.run_at - ago,
                     'claimed_at', f.claimed_at - ago, 'finished_at', f.finished_at - ago))).*
         from finished_jobs f, make_interval(mins => $1) as ago
         where f.job_id = (select job_id from finished_jobs where state = 'succeeded' limit 1)
         returning *)
         insert into ended_counts (owner, model_id, at, state, jobs, in_time, infer_micros, attempt_micros, images)
         select owner, model_id, finished_at, state, 1, 1, infer_micros(timings, forward_batch_size), micros(finished_at - claimed_at),
                array[image_sha256] from late",
    )
    .bind(minutes)
    .execute(db)
    .await
    .unwrap();
}

#[tokio::test]
async fn the_views_equal_the_jobs_before_and_after_a_fold() {
    let db = given::database().await;
    complete_a_job(&db, "cat", json!({"infer": 20.5, "fetch": 3.0})).await;
    complete_a_job(&db, "dog", json!({"infer": 40.0, "decode": 1.5})).await;
    fail_a_job(&db, "torn", ProblemCode::ImageUndecodable).await;
    fail_a_job(&db, "bad", ProblemCode::ModelError).await;
    assert_views_equal_the_jobs(&db, "before a fold").await;
    fold(&db).await;
    assert_views_equal_the_jobs(&db, "after a fold").await;
    complete_a_job(&db, "cow", json!({"infer": 10.0})).await;
    fail_a_job(&db, "worse", ProblemCode::ModelError).await;
    assert_views_equal_the_jobs(&db, "with jobs since").await;
    fold(&db).await;
    assert_views_equal_the_jobs(&db, "after the next fold").await;
    let rows: (i64, i64) = sqlx::query_as(
        "select (select count(*) from usage_days), (select count(*) from ended_counts)",
    )
    .fetch_one(&**db)
    .await
    .unwrap();
    assert_eq!(rows, (1, 0), "one row for each owner, model and day");
}

#[tokio::test]
async fn a_retried_job_counts_when_it_ends_again() {
    let db = given::database().await;
    fail_a_job(&db, "early", ProblemCode::ModelError).await;
    let late = fail_a_job(&db, "late", ProblemCode::ModelError).await;
    fold(&db).await;
    queue::retry(&db, late, Some(given::OWNER)).await.unwrap();
    let jobs: i64 = sqlx::query_scalar("select sum(jobs)::bigint from ops.usage")
        .fetch_one(&**db)
        .await
        .unwrap();
    assert_eq!(jobs, 1);
    fold(&db).await;
    // The retried job was the latest one.
    assert_views_equal_the_jobs(&db, "while the job waits").await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    assert_views_equal_the_jobs(&db, "when it has succeeded").await;
}

#[tokio::test]
async fn a_deleted_job_stays_counted() {
    let db = given::database().await;
    let job = complete_a_job(&db, "cat", json!({"infer": 20.5})).await;
    let usage = async || -> (i64, i64) {
        sqlx::query_as("select jobs, image_bytes from ops.usage")
            .fetch_one(&**db)
            .await
            .unwrap()
    };
    let before = usage().await;
    queue::purge(&db, job, None).await.unwrap();
    assert_eq!(queue::prune(&db, -1.0).await.unwrap(), 1);
    assert_eq!(usage().await, before);
    fold(&db).await;
    assert_eq!(usage().await, before);
}

/// A transaction may commit long after its `now()`.
#[tokio::test]
async fn a_job_that_is_committed_late_voids_stored_percentiles() {
    let db = given::database().await;
    complete_a_job(&db, "cat", json!({"infer": 20.5, "fetch": 3.0})).await;
    add_a_late_job(&db, 30).await;
    fold(&db).await;
    let stored = async || -> Vec<i64> {
        sqlx::query_scalar("select jobs from latency_periods")
            .fetch_all(&**db)
            .await
            .unwrap()
    };
    assert_eq!(stored().await, [1], "the period that is over");
    let open = db.in_open_transaction().await;
    add_a_late_job(&open, 30).await;
    fold(&db).await;
    assert_views_equal_the_jobs(&db, "before the commit").await;
    sqlx::raw_sql("commit").execute(&open).await.unwrap();
    assert_views_equal_the_jobs(&db, "after the commit").await;
    fold(&db).await;
    assert_eq!(stored().await, [2]);
    assert_views_equal_the_jobs(&db, "after the fold").await;
}

/// A fold of the whole backlog could take longer than a statement may, and would then never succeed.
#[tokio::test]
async fn a_fold_leaves_the_rest_of_a_long_backlog_to_the_next_one() {
    let db = given::database().await;
    sqlx::query(
        "insert into ended_counts (owner, model_id, state, jobs, in_time, infer_micros, attempt_micros)
         select 'anna', 1, 'succeeded', 1, 1, 1, 1 from generate_series(1, 10001)",
    )
    .execute(&*db)
    .await
    .unwrap();
    for (waiting, folded) in [(1, 10_000), (0, 10_001)] {
        queue::fold_history(&**db).await.unwrap();
        let rows: (i64, i64) = sqlx::query_as(
            "select (select count(*) from ended_counts), (select jobs from usage_days)",
        )
        .fetch_one(&**db)
        .await
        .unwrap();
        assert_eq!(rows, (waiting, folded));
    }
}

/// A timing is what a worker said. It must not keep a job from ending.
#[tokio::test]
async fn odd_timings_end_a_job_all_the_same() {
    let db = given::database().await;
    for timings in [
        json!({"infer": "fast"}),
        json!({"infer": -1}),
        json!({"infer": 1e300}),
        json!({}),
    ] {
        complete_a_job(&db, &timings.to_string(), timings.clone()).await;
    }
    let jobs: i64 = sqlx::query_scalar("select sum(jobs)::bigint from ops.usage")
        .fetch_one(&**db)
        .await
        .unwrap();
    assert_eq!(jobs, 4);
}

/// Neither side waits, and no count is lost or doubled.
#[tokio::test]
async fn a_fold_and_a_job_that_ends_do_not_wait_for_each_other() {
    let db = given::database().await;
    complete_a_job(&db, "cat", json!({"infer": 20.5})).await;
    let folding = db.in_open_transaction().await;
    assert!(queue::fold_history(&folding).await.unwrap() > 0);
    complete_a_job(&db, "dog", json!({"infer": 1.0})).await;
    assert_eq!(
        queue::fold_history(&**db).await.unwrap(),
        0,
        "another process folds"
    );
    assert_views_equal_the_jobs(&db, "while the fold is not committed").await;
    sqlx::raw_sql("commit").execute(&folding).await.unwrap();
    assert_views_equal_the_jobs(&db, "after its commit").await;
}
