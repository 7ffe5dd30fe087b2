//! The functions of `ops`, called with the role of an operator.

use std::str::FromStr;

use jobs::{Problem, ProblemCode, Sha256Digest, queue};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tests::{Database, given};

async fn psql(db: &Database) -> PgConnection {
    let options = PgConnectOptions::from_str(db.url()).unwrap();
    PgConnection::connect_with(&options.options([("role", "darkroom_operator")]))
        .await
        .unwrap()
}

/// The SQLSTATE with which `statement` is refused.
async fn refusal(db: &mut PgConnection, statement: &str) -> String {
    let refused = sqlx::raw_sql(AssertSqlSafe(statement)).execute(db).await;
    let refused = refused.expect_err(statement);
    let error = refused.as_database_error().unwrap();
    error.code().unwrap().into_owned()
}

async fn answer(db: &mut PgConnection, statement: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(statement))
        .fetch_one(db)
        .await
        .unwrap()
}

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

#[tokio::test]
async fn every_action_is_in_the_audit_with_its_actor() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let worker = given::worker(&db, "w").await;
    let image = Sha256Digest::of(b"cat").hex();
    let mut operator = psql(&db).await;
    for action in [
        format!("select ops.set_priority('{cat}', 4)"),
        format!("select ops.cancel('{cat}')"),
        format!("select ops.retry('{}')", cat.uuid()),
        format!("select ops.cancel('{}'::uuid)", cat.uuid()),
        format!("select ops.cancel('{cat}')"),
        format!("select ops.purge('{cat}')"),
        "select ops.retry_failed('lite', 'model_error')".to_owned(),
        "select ops.pause('lite', 'bad labels')".to_owned(),
        "select ops.resume('lite')".to_owned(),
        format!("select ops.drain({worker})"),
        "select ops.set_alias('lite', 'stable', 1)".to_owned(),
        "select ops.delete_alias('lite', 'stable')".to_owned(),
        "select ops.unretire('lite', 1)".to_owned(),
        format!("select ops.enqueue('lite', 'alice', '{image}')"),
    ] {
        sqlx::raw_sql(AssertSqlSafe(action))
            .execute(&mut operator)
            .await
            .unwrap();
    }
    let audited: Vec<String> =
        sqlx::query_scalar("select concat_ws(' ', verb, outcome) from ops.audit order by at")
            .fetch_all(&*db)
            .await
            .unwrap();
    assert_eq!(
        audited,
        [
            "set_priority set",
            "cancel canceled",
            "retry queued",
            "cancel canceled",
            "cancel canceled",
            "purge purged",
            "retry_failed 0 queued",
            "pause paused",
            "resume resumed",
            "drain draining",
            "set_alias set",
            "delete_alias deleted",
            "unretire_version unretired",
            "enqueue queued"
        ]
    );
    let other_actors = "select count(*)::text from ops.audit where role <> 'darkroom_operator' or actor <> session_user";
    assert_eq!(answer(&mut operator, other_actors).await, "0");
    let why = "select arguments ->> 'why' from ops.audit where verb = 'pause' and subject = 'lite'";
    assert_eq!(answer(&mut operator, why).await, "bad labels");
}

#[tokio::test]
async fn retry_failed_retries_a_limited_number_of_jobs_with_one_code() {
    let db = given::database().await;
    given::queued(&db, ["a", "b", "c", "d"]).await;
    let worker = given::worker(&db, "w").await;
    let claims = tests::claiming::claim(&db, worker, &[], 4).await.unwrap();
    let undecodable = || Problem::new(ProblemCode::ImageUndecodable, "made up");
    let faults = claims
        .iter()
        .enumerate()
        .map(|(n, claim)| (claim.lease, if n == 0 { undecodable() } else { fault() }));
    tests::settling::fail(&db, &faults.collect::<Vec<_>>())
        .await
        .unwrap();
    let mut operator = psql(&db).await;
    let left = "select coalesce(string_agg(problem ->> 'code', ' ' order by job_id), '') from ops.jobs where status = 'failed'";
    for (call, retried, then) in [
        (
            "select ops.retry_failed('lite', 'model_error', now() + interval '1 hour')::text",
            "0",
            "image_undecodable model_error model_error model_error",
        ),
        (
            "select ops.retry_failed('lite', 'model_error', max => 2)::text",
            "2",
            "image_undecodable model_error",
        ),
        (
            "select ops.retry_failed('lite', 'model_error')::text",
            "1",
            "image_undecodable",
        ),
        ("select ops.retry_failed('lite')::text", "1", ""),
    ] {
        assert_eq!(answer(&mut operator, call).await, retried, "{call}");
        assert_eq!(answer(&mut operator, left).await, then, "{call}");
    }
    assert_eq!(
        refusal(
            &mut operator,
            "select ops.retry_failed('lite', max => 10001)"
        )
        .await,
        "22023"
    );
}

#[tokio::test]
async fn a_job_enqueued_in_sql_exists_only_after_the_commit() {
    let db = given::database().await;
    let [dog] = given::queued(&db, ["dog"]).await;
    queue::cancel(&db, dog, None).await.unwrap();
    let image = Sha256Digest::of(b"dog").hex();
    let mut operator = psql(&db).await;
    let enqueue = format!(
        "select ops.enqueue('lite', 'alice', 'sha256:{image}', '{{\"top_k\": 2}}', '{{\"name\": \"sql\"}}', 7)"
    );
    sqlx::raw_sql(AssertSqlSafe(format!("begin; {enqueue}; rollback")))
        .execute(&mut operator)
        .await
        .unwrap();
    assert_eq!(
        answer(
            &mut operator,
            "select count(*)::text from ops.jobs where status = 'queued'"
        )
        .await,
        "0"
    );
    let counted: i64 = sqlx::query_scalar("select jobs from images")
        .fetch_one(&*db)
        .await
        .unwrap();
    assert_eq!(counted, 1, "only the canceled job needs the image");
    sqlx::raw_sql(AssertSqlSafe(format!("begin; {enqueue}; commit")))
        .execute(&mut operator)
        .await
        .unwrap();
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(held.claim.params["top_k"], 2);
    assert_eq!(held.claim.image_sha256, Sha256Digest::of(b"dog"));
    let id = held.job_id().uuid();
    assert_eq!(id.get_version_num(), 7);
    let job = queue::find(&db, held.job_id(), given::OWNER)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((job.model_ref.as_str(), job.priority), ("lite@default", 7));
    let apart = job.created_at.timestamp_millis() - i64::try_from(id.as_u128() >> 80).unwrap();
    assert!(
        apart.abs() < 1_000,
        "the id must contain the time of the submit"
    );
}

#[tokio::test]
async fn enqueue_in_sql_refuses_the_arguments_that_rest_refuses() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let mut operator = psql(&db).await;
    let image = Sha256Digest::of(b"cat").hex();
    for (arguments, code) in [
        (format!("'lite@nope', 'alice', '{image}'"), "P0002"),
        (format!("'lite:2', 'alice', '{image}'"), "P0002"),
        (format!("'lite:three', 'alice', '{image}'"), "P0002"),
        (format!("'lite', 'bob', '{image}'"), "P0002"),
        (
            format!("'lite', 'alice', '{}'", Sha256Digest::of(b"dog").hex()),
            "P0002",
        ),
        ("'lite', 'alice', 'cat.jpg'".to_owned(), "22023"),
        (
            format!("'lite', 'alice', '{image}', '{{\"top_k\": 0}}'"),
            "22023",
        ),
        (
            format!("'lite', 'alice', '{image}', '{{\"top_k\": 1.5}}'"),
            "22023",
        ),
        (
            format!("'lite', 'alice', '{image}', '{{\"top_k\": \"5\"}}'"),
            "22023",
        ),
        (
            format!("'lite', 'alice', '{image}', '{{\"topk\": 5}}'"),
            "22023",
        ),
        (
            format!("'lite', 'alice', '{image}', priority => 101"),
            "22023",
        ),
        (
            format!("'lite', 'alice', '{image}', deadline => now() - interval '1 s'"),
            "22023",
        ),
    ] {
        let call = format!("select ops.enqueue({arguments})");
        assert_eq!(refusal(&mut operator, &call).await, code, "{call}");
    }
    for out_of_bounds in [
        "deadline => 'infinity'",
        "deadline => '10000-01-01'",
        "run_at => 'infinity'",
        "run_at => '-infinity'",
        "run_at => '1969-12-31'",
        "retain_for => '300000 years'",
        "retain_for => '0'",
        "retain_for => '-1 day'",
        "retain_for => null",
        "attempts_max => 0",
        "attempts_max => 21",
        "interruptions_max => 0",
        "attempt_timeout_seconds => 0",
        "attempt_timeout_seconds => null",
        "metadata => (select jsonb_object_agg(n, n) from generate_series(1, 51) n)",
    ] {
        let call = format!("select ops.enqueue('lite', 'alice', '{image}', {out_of_bounds})");
        assert_eq!(refusal(&mut operator, &call).await, "22023", "{call}");
    }
    for fine in [
        format!("'lite:1', 'alice', '{image}'"),
        format!("'lite@default', 'alice', '{image}', run_at => now() + interval '1 hour'"),
    ] {
        answer(&mut operator, &format!("select ops.enqueue({fine})::text")).await;
    }
    let states = "select string_agg(status || ' ' || model, ', ' order by job_id) from ops.jobs where model <> 'lite@default' or status <> 'queued'";
    assert_eq!(
        answer(&mut operator, states).await,
        "queued lite:1, scheduled lite@default"
    );
}

/// An operator leaves a transaction open; submits of that owner through the API must not wait.
#[tokio::test]
async fn an_uncommitted_enqueue_in_sql_does_not_block_the_api() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let mut operator = psql(&db).await;
    let image = Sha256Digest::of(b"cat").hex();
    sqlx::raw_sql(AssertSqlSafe(format!(
        "begin; select ops.enqueue('lite', 'alice', '{image}')"
    )))
    .execute(&mut operator)
    .await
    .unwrap();
    let short_lock_timeout = PgConnectOptions::from_str(db.url())
        .unwrap()
        .options([("lock_timeout", "1s")]);
    let api = PgPoolOptions::new().connect_lazy_with(short_lock_timeout);
    given::queued(&api, ["dog"]).await;
}

#[tokio::test]
async fn a_model_version_can_retire_only_without_an_alias() {
    let db = given::database().await;
    given::model_version(&db, given::MODEL).await;
    sqlx::raw_sql(
        "insert into model_versions (model_id, version, digest, task, manifest, files)
         select model_id, 2, sha256('two'), task, manifest, files from model_versions",
    )
    .execute(&*db)
    .await
    .unwrap();
    let mut operator = psql(&db).await;
    let retire = "select ops.retire('lite', 1)";
    assert_eq!(refusal(&mut operator, retire).await, "55000");
    let moved = "select ops.set_alias('lite', 'default', 2)";
    assert_eq!(answer(&mut operator, moved).await, "set");
    for _ in 0..2 {
        assert_eq!(answer(&mut operator, retire).await, "retired");
    }
    let back = "select ops.set_alias('lite', 'default', 1)";
    assert_eq!(refusal(&mut operator, back).await, "55000");
    assert_eq!(
        answer(&mut operator, "select ops.unretire('lite', 1)").await,
        "unretired"
    );
    assert_eq!(
        answer(&mut operator, "select ops.set_alias('lite', 'old', 1)").await,
        "set"
    );
    let needed = "select ops.delete_alias('lite', 'default')";
    assert_eq!(refusal(&mut operator, needed).await, "55000");
    let missing = "select ops.set_alias('lite', 'default', 3)";
    assert_eq!(refusal(&mut operator, missing).await, "P0002");
    let aliased = "select version::text from ops.models where 'default' = any(aliases)";
    assert_eq!(answer(&mut operator, aliased).await, "2");
}
