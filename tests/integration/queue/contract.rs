//! The schema `ops`: the views and functions that operators may rely on.

use std::collections::HashSet;

use insta::assert_snapshot;
use jobs::{InputWarning, JobState, Problem, ProblemCode, queue};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, Row};
use tests::{clock, given};

/// Columns of views and functions that `ops` keeps. A release adds its new ones.
const RELEASED: &str = include_str!("ops_contract.txt");

async fn column(db: &PgPool, statement: &'static str) -> Vec<String> {
    sqlx::query_scalar(statement).fetch_all(db).await.unwrap()
}

/// Views only add columns, and functions stay as they are. A change of the list must be in the changelog.
#[tokio::test]
async fn ops_keeps_every_column_and_function_that_was_released() {
    let db = given::database().await;
    let columns = column(
        &db,
        "select format('%s.%s %s', table_name, column_name, data_type) from information_schema.columns
         where table_schema = 'ops' order by table_name, ordinal_position",
    )
    .await;
    let functions = column(
        &db,
        "select format('%s(%s) → %s', proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
         from pg_proc p where pronamespace = 'ops'::regnamespace order by 1",
    )
    .await;
    let present: HashSet<_> = columns.into_iter().chain(functions).collect();
    let lost: Vec<_> = RELEASED
        .lines()
        .filter(|line| !present.contains(*line))
        .collect();
    assert!(lost.is_empty(), "ops has lost or changed: {lost:#?}");
}

#[tokio::test]
async fn every_view_and_function_of_ops_has_a_comment() {
    let db = given::database().await;
    let uncommented = column(
        &db,
        "select oid::regclass::text from pg_class where relnamespace = 'ops'::regnamespace and relkind = 'v'
             and obj_description(oid, 'pg_class') is null
         union all
         select oid::regprocedure::text from pg_proc where pronamespace = 'ops'::regnamespace
             and obj_description(oid, 'pg_proc') is null",
    )
    .await;
    assert!(uncommented.is_empty(), "no COMMENT: {uncommented:?}");
}

#[tokio::test]
async fn every_column_of_ops_has_a_comment() {
    let db = given::database().await;
    let uncommented = column(
        &db,
        "select format('%s.%s', attrelid::regclass, attname) from pg_attribute a join pg_class c on c.oid = a.attrelid
         where c.relnamespace = 'ops'::regnamespace and c.relkind = 'v' and attnum > 0
             and col_description(attrelid, attnum) is null
         order by 1",
    )
    .await;
    assert!(uncommented.is_empty(), "no COMMENT: {uncommented:?}");
}

#[tokio::test]
async fn darkroom_reader_can_read_every_view_and_no_table() {
    let db = given::database().await;
    let views = column(
        &db,
        "select oid::regclass::text from pg_class where relnamespace = 'ops'::regnamespace and relkind = 'v'",
    )
    .await;
    let mut reader = db.connection().await;
    sqlx::raw_sql("set role darkroom_reader")
        .execute(&mut reader)
        .await
        .unwrap();
    for view in views {
        let read = AssertSqlSafe(format!("select * from {view} limit 1"));
        sqlx::raw_sql(read).execute(&mut reader).await.unwrap();
    }
    for table in ["live_jobs", "finished_jobs", "api_keys", "workers"] {
        let read = AssertSqlSafe(format!("select * from {table} limit 1"));
        let refused = sqlx::raw_sql(read).execute(&mut reader).await.unwrap_err();
        let code = refused
            .as_database_error()
            .and_then(|error| error.code().map(Into::into));
        assert_eq!(code, Some("42501".to_owned()), "{table}");
    }
}

/// The end of a job changes none of its inputs.
#[tokio::test]
async fn ops_jobs_shows_equal_inputs_before_and_after_the_end_of_a_job() {
    const INPUTS: &str = "select jsonb_build_array(id, task, owner, model, model_name, model_version, model_digest, image, content_type,
                bytes, width, height, params, metadata, priority, created_at, deadline, attempts_max, interruptions_max, trace_parent)
         from ops.jobs where job_id = $1";
    let db = given::database().await;
    let deadline = Some(chrono::Utc::now() + chrono::TimeDelta::hours(1));
    let job = given::queued_with(&db, "cat", |job| {
        job.deadline = deadline;
        job.priority = 3;
        job.trace_parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    })
    .await;
    let inputs = || async {
        let rows = sqlx::query(INPUTS).bind(job.uuid()).fetch_all(&*db);
        let rows = rows.await.unwrap();
        assert_eq!(rows.len(), 1, "each job must have one row");
        rows[0].get::<serde_json::Value, _>(0)
    };
    let queued = inputs().await;
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(inputs().await, queued);
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    assert_eq!(inputs().await, queued);
}

/// Fills every text column that both tables have and no check restricts, so that a new column cannot be forgotten on the way.
#[tokio::test]
async fn every_column_of_both_tables_survives_the_end_of_a_job_and_its_retry() {
    let db = given::database().await;
    let id = given::queued(&db, ["cat"]).await[0];
    let held = given::claimed_by(&db, "w").await;
    let shared = column(
        &db,
        "select column_name::text from information_schema.columns l
         where table_schema = 'public' and table_name = 'live_jobs' and data_type = 'text' and is_nullable = 'YES'
           and exists (select from information_schema.columns f
                       where f.table_schema = 'public' and f.table_name = 'finished_jobs' and f.column_name = l.column_name)
         order by 1",
    )
    .await;
    assert!(shared.contains(&"trace_parent".to_owned()), "{shared:?}");
    let values: Vec<_> = shared
        .iter()
        .map(|name| format!("{name} = 'https://example.org/kept'"))
        .collect();
    let fill = format!("update live_jobs set {}", values.join(", "));
    let fill = sqlx::query(AssertSqlSafe(fill));
    fill.execute(&*db).await.unwrap();
    let filled = async |table: &str| {
        let filled = format!(
            "select f.key from {table} j, jsonb_each_text(to_jsonb(j)) f
             where j.job_id = $1 and f.value = 'https://example.org/kept' order by 1"
        );
        let filled = sqlx::query_scalar(AssertSqlSafe(filled)).bind(id.uuid());
        let filled: Vec<String> = filled.fetch_all(&*db).await.unwrap();
        filled
    };
    assert_eq!(filled("ops.jobs").await, shared, "while the job runs");
    let fault = Problem::new(ProblemCode::ModelError, "made up");
    tests::settling::fail(&db, &[(held.lease(), fault)])
        .await
        .unwrap();
    assert_eq!(filled("finished_jobs").await, shared, "function settle");
    assert_eq!(filled("ops.jobs").await, shared, "after the end");
    queue::retry(&db, id, None).await.unwrap();
    assert_eq!(filled("live_jobs").await, shared, "function retry_job");
}

#[tokio::test]
async fn a_finished_job_shows_its_result_and_its_timings() {
    let db = given::database().await;
    let [id] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    let job = queue::find(&db, id, given::OWNER).await.unwrap().unwrap();
    assert_eq!(job.result.unwrap()["answer"], "done");
    let timings = job.timings.unwrap();
    assert_eq!(timings["infer"], 1.5);
    assert!(timings["queue"].as_f64().unwrap() >= 0.0);
    assert!(timings["total"].as_f64().unwrap() >= timings["queue"].as_f64().unwrap());
    assert_eq!(job.worker.as_deref(), Some("w"));
    assert!(job.started_at.unwrap() <= job.finished_at.unwrap());
    let retention = job.retain_until.unwrap() - job.finished_at.unwrap();
    assert_eq!(retention.num_seconds(), 86_400);
}

#[tokio::test]
async fn a_finished_job_keeps_the_warnings_of_its_own_image() {
    let db = given::database().await;
    let ids = given::queued(&db, ["odd", "fine", "newer"]).await;
    let worker = given::worker(&db, "w").await;
    let claims = tests::claiming::claim(&db, worker, &[], 3).await.unwrap();
    let found = [
        vec![InputWarning::BadHeader, InputWarning::StrayBytes],
        vec![],
        vec![InputWarning::MissingEnd],
    ];
    let done: Vec<_> = ids
        .iter()
        .zip(found)
        .map(|(id, input_warnings)| {
            let claim = claims.iter().find(|claim| claim.lease.job_id == *id);
            let prediction = queue::Prediction {
                input_warnings,
                ..given::prediction(json!({}))
            };
            given::succeeded(claim.unwrap().lease, prediction)
        })
        .collect();
    tests::settling::complete(&db, &done).await.unwrap();
    // A code of a later version.
    sqlx::query("update finished_jobs set input_warnings = '{bad_weather}' where job_id = $1")
        .bind(ids[2].uuid())
        .execute(&*db)
        .await
        .unwrap();
    let warnings = async |id| {
        let job = queue::find(&db, id, given::OWNER).await.unwrap().unwrap();
        let warnings = job.image.warnings.into_iter();
        let codes: Vec<_> = warnings.map(|one| one.as_str().to_owned()).collect();
        codes.join(" ")
    };
    assert_eq!(warnings(ids[0]).await, "bad_header stray_bytes");
    assert_eq!(warnings(ids[1]).await, "");
    assert_eq!(warnings(ids[2]).await, "bad_weather");
    let nulls: i64 =
        sqlx::query_scalar("select count(*) from ops.jobs where input_warnings is null")
            .fetch_one(&*db)
            .await
            .unwrap();
    assert_eq!(nulls, 1, "no warning is null");
    queue::purge(&db, ids[0], None).await.unwrap();
    assert_eq!(warnings(ids[0]).await, "", "a purge deletes them");
}

#[tokio::test]
async fn a_retried_job_starts_without_warnings() {
    let db = given::database().await;
    let [id] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    // A job that is canceled while its outcome is written keeps what its attempt found.
    queue::cancel(&db, id, None).await.unwrap();
    let prediction = queue::Prediction {
        input_warnings: vec![InputWarning::StrayBytes],
        ..given::prediction(json!({}))
    };
    tests::settling::complete(&db, &[given::succeeded(held.lease(), prediction)])
        .await
        .unwrap();
    let warnings = async || {
        let job = queue::find(&db, id, given::OWNER).await.unwrap().unwrap();
        (job.state, job.image.warnings.len())
    };
    assert_eq!(warnings().await, (JobState::Canceled, 1));
    queue::retry(&db, id, None).await.unwrap();
    assert_eq!(warnings().await, (JobState::Queued, 0));
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    assert_eq!(warnings().await, (JobState::Succeeded, 0));
}

#[tokio::test]
async fn the_version_grows_with_every_change() {
    let db = given::database().await;
    let [id] = given::queued(&db, ["cat"]).await;
    let version = || async {
        let job = queue::find(&db, id, given::OWNER).await.unwrap().unwrap();
        job.version
    };
    let mut seen = vec![version().await];
    let held = given::claimed_by(&db, "one").await;
    seen.push(version().await);
    tests::settling::release(&db, &[held.lease()])
        .await
        .unwrap();
    seen.push(version().await);
    let held = given::claimed_by(&db, "two").await;
    seen.push(version().await);
    clock::lease_ran_out(&db, held.worker).await;
    queue::rescue(&*db).await.unwrap();
    seen.push(version().await);
    let held = given::claimed_by(&db, "three").await;
    seen.push(version().await);
    queue::cancel(&db, id, None).await.unwrap();
    seen.push(version().await);
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    seen.push(version().await);
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

#[tokio::test]
async fn ops_attempts_lists_running_and_succeeded_attempts() {
    let db = given::database().await;
    let [id] = given::queued(&db, ["cat"]).await;
    let first = given::claimed_by(&db, "first").await;
    tests::settling::release(&db, &[first.lease()])
        .await
        .unwrap();
    let second = given::claimed_by(&db, "second").await;
    let outcomes = || async {
        let attempts = queue::attempts(&db, id).await.unwrap();
        let shown = attempts.into_iter().map(|attempt| {
            let (worker, outcome) = (attempt.worker.unwrap(), attempt.outcome);
            (attempt.number, worker, outcome, attempt.charged)
        });
        format!("{:?}", shown.collect::<Vec<_>>())
    };
    assert_snapshot!(outcomes().await, @r#"[(1, "first", Some("released"), false), (2, "second", None, false)]"#);
    tests::settling::complete(&db, &[second.completion("done")])
        .await
        .unwrap();
    assert_snapshot!(outcomes().await, @r#"[(1, "first", Some("released"), false), (2, "second", Some("succeeded"), true)]"#);
}

#[tokio::test]
async fn a_list_of_jobs_has_pages_and_filters() {
    let db = given::database().await;
    let ids = given::queued(&db, ["a", "b", "c", "d", "e"]).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    let mut filter = queue::JobFilter::default();
    let mut seen = Vec::new();
    loop {
        let size = queue::PageSize::of(2);
        let page = queue::list(db.pool(), given::OWNER, &filter, size).await;
        let page = page.unwrap();
        seen.extend(page.jobs.iter().map(|job| job.id));
        filter.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert!(
        seen.iter().rev().eq(ids.iter()),
        "newest first, each job once"
    );
    let count = |filter: queue::JobFilter| {
        let db = &db;
        async move { listed(db, given::OWNER, &filter).await }
    };
    let none = queue::JobFilter::default;
    let succeeded = Some(jobs::JobState::Succeeded);
    assert_eq!(
        count(queue::JobFilter {
            state: succeeded,
            ..none()
        })
        .await,
        1
    );
    let queued = Some(jobs::JobState::Queued);
    assert_eq!(
        count(queue::JobFilter {
            state: queued,
            ..none()
        })
        .await,
        4
    );
    let unknown = Some("no-such-model".to_owned());
    assert_eq!(
        count(queue::JobFilter {
            model: unknown,
            ..none()
        })
        .await,
        0
    );
    let task = Some("classify".to_owned());
    assert_eq!(count(queue::JobFilter { task, ..none() }).await, 5);
    let metadata = serde_json::json!({"name": "c"})
        .as_object()
        .unwrap()
        .clone();
    assert_eq!(count(queue::JobFilter { metadata, ..none() }).await, 1);
    let in_an_hour = Some(chrono::Utc::now() + chrono::TimeDelta::hours(1));
    assert_eq!(
        count(queue::JobFilter {
            created_after: in_an_hour,
            ..none()
        })
        .await,
        0
    );
    assert_eq!(
        count(queue::JobFilter {
            created_before: in_an_hour,
            ..none()
        })
        .await,
        5
    );
    assert_eq!(listed(&db, "bob", &none()).await, 0);
}

/// How many jobs of `owner` fit the filter.
async fn listed(db: &PgPool, owner: &str, filter: &queue::JobFilter) -> usize {
    let page = queue::list(db, owner, filter, queue::PageSize::of(100)).await;
    page.unwrap().jobs.len()
}

/// The API makes the id before the commit of the row. With a busy queue the row is seconds younger than the id.
#[tokio::test]
async fn the_time_filter_of_a_list_uses_the_time_of_the_row() {
    let db = given::database().await;
    let ago = (chrono::Utc::now() - chrono::TimeDelta::seconds(10)).timestamp();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, ago.unsigned_abs(), 0);
    let id = given::queued_with(&db, "cat", |job| job.id = uuid::Uuid::new_v7(time).into()).await;
    let job = queue::find(&db, id, given::OWNER).await.unwrap().unwrap();
    let count_since = async |since| {
        let filter = queue::JobFilter {
            created_after: Some(since),
            ..Default::default()
        };
        listed(&db, given::OWNER, &filter).await
    };
    assert_eq!(count_since(job.created_at).await, 1);
    let later = job.created_at + chrono::TimeDelta::microseconds(1);
    assert_eq!(count_since(later).await, 0);
}

/// A query string has only text: numbers and booleans are compared as JSON writes them.
#[tokio::test]
async fn the_metadata_filter_compares_values_as_text() {
    let db = given::database().await;
    let object = |value: serde_json::Value| value.as_object().unwrap().clone();
    let sent = object(json!({"listing": 8841, "sold": true, "shop": "north", "note": null}));
    given::queued_with(&db, "cat", |job| job.metadata = sent).await;
    given::queued(&db, ["dog"]).await;
    for (wanted, expected) in [
        (json!({"listing": "8841"}), 1),
        (json!({"sold": "true"}), 1),
        (json!({"shop": "north"}), 1),
        (
            json!({"listing": "8841", "sold": "true", "shop": "north"}),
            1,
        ),
        (json!({"listing": "884"}), 0),
        (json!({"shop": "north", "sold": "false"}), 0),
        (json!({"note": ""}), 0),
        (json!({"price": "8841"}), 0),
        (json!({}), 2),
    ] {
        let filter = queue::JobFilter {
            metadata: object(wanted.clone()),
            ..Default::default()
        };
        let fits = listed(&db, given::OWNER, &filter).await;
        assert_eq!(fits, expected, "{wanted}");
    }
}

#[tokio::test]
async fn attempts_of_a_succeeded_job_equal_the_rows_of_the_view() {
    let db = given::database().await;
    let id = given::queued(&db, ["cat"]).await[0];
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    let job = queue::find(&db, id, given::OWNER).await.unwrap().unwrap();
    let short = queue::attempts_of(&db, &job).await.unwrap();
    let viewed = queue::attempts(&db, id).await.unwrap();
    assert_eq!(short, viewed);
}
