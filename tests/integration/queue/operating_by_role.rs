//! The four database roles: each role can run the statements of its programs or people, and no others.

mod api;
mod webhook_urls;

use std::{str::FromStr, time::Duration};

use jobs::{
    JobId, Problem, ProblemCode, Sha256Digest, batches,
    bucket::{self, BucketState, Checked, Program},
    db::{Db, PoolingMode},
    images, keys, models,
    queue::{self, IdempotencyKey, Registration},
    retention::{self, RetentionConfig},
};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tests::{Database, clock, given};

fn options(db: &Database, role: &str) -> PgConnectOptions {
    PgConnectOptions::from_str(db.url())
        .unwrap()
        .options([("role", role)])
}

/// A pool whose connections have `role`, like a login with that role.
pub(super) fn acting_as(db: &Database, role: &str) -> Db {
    let pool = PgPoolOptions::new().max_connections(4);
    let pool = pool.connect_lazy_with(options(db, role));
    Db::from_pool(pool, Duration::from_secs(30), PoolingMode::Session)
}

async fn psql(db: &Database, role: &str) -> PgConnection {
    PgConnection::connect_with(&options(db, role))
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

/// The housekeeping that every process may run.
async fn run_housekeeping(db: &Db) {
    queue::rescue(db).await.unwrap();
    queue::time_out(db).await.unwrap();
    queue::expire(db).await.unwrap();
    queue::promote(db).await.unwrap();
    jobs::models::rescue_trials(db).await.unwrap();
    queue::forget_keys(db).await.unwrap();
    assert!(jobs::db::make_partitions(db, 5).await.unwrap() > 0);
}

/// One job each for rescue, time-out, expiry and promotion.
async fn make_work_for_housekeeping(db: &Database) -> [JobId; 4] {
    let ids = given::queued(db, ["lost", "late", "expired", "planned"]).await;
    let lost = given::claimed_by(db, "lost").await;
    clock::lease_ran_out(db, lost.worker).await;
    let late = given::claimed_by(db, "late").await;
    clock::attempt_ran_too_long(db, late.job_id()).await;
    clock::deadline_passed(db, ids[2]).await;
    sqlx::query("update live_jobs set state = 'scheduled', run_at = now() where job_id = $1")
        .bind(ids[3].uuid())
        .execute(&**db)
        .await
        .unwrap();
    ids
}

#[tokio::test]
async fn darkroom_worker_can_run_all_statements_of_workers() {
    let db = given::database().await;
    make_work_for_housekeeping(&db).await;
    let pool = acting_as(&db, "darkroom_worker");
    run_housekeeping(&pool).await;
    given::queued(&db, ["a", "b", "c", "d"]).await;
    let registration = Registration {
        name: "w".into(),
        device: "cpu".into(),
        build: "test".into(),
        models: vec![],
    };
    let worker = queue::register(&pool, &registration, 60.0).await.unwrap();
    queue::heartbeat(&pool, worker, 60.0).await.unwrap();
    queue::report_loaded_models(&pool, worker, &[])
        .await
        .unwrap();
    queue::report_store_fault(&pool, worker, Some("no images"))
        .await
        .unwrap();
    let sha256 = Sha256Digest::of(b"a");
    let stored = given::stored(&db, given::OWNER, sha256).await.unwrap();
    images::report(&pool, given::OWNER, sha256, stored.image.upload)
        .await
        .unwrap();
    let reported = given::stored(&db, given::OWNER, sha256).await.unwrap();
    assert_eq!(reported.suspicion, Some(images::Suspicion::Reported));
    let claims = tests::claiming::claim(&pool, worker, &[], 4).await.unwrap();
    assert!(
        models::version(&pool, claims[0].model_version_id)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        tests::settling::complete(&pool, &[given::completion(claims[0].lease, "done")])
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        tests::settling::fail(&pool, &[(claims[1].lease, fault())])
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        tests::settling::retry(&pool, &[(claims[2].lease, fault())])
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        tests::settling::release(&pool, &[claims[3].lease])
            .await
            .unwrap()
            .len(),
        1
    );
    let version = claims[0].model_version_id;
    assert_eq!(models::claim_trial(&pool, worker, &[]).await.unwrap(), None);
    let trial = models::Trial {
        version_id: version,
        lease_no: 1.into(),
    };
    let ended = models::end_trial(&pool, trial, &models::Verdict::Loaded).await;
    assert_eq!(ended.unwrap(), None);
    models::wanted_prefetches(&pool, worker).await.unwrap();
    models::note_load_error(&pool, version, "w", "made up")
        .await
        .unwrap();
    queue::deregister(&pool, worker).await.unwrap();
}

#[tokio::test]
async fn darkroom_worker_can_do_nothing_else() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let mut worker = psql(&db, "darkroom_worker").await;
    for forbidden in [
        "select * from api_keys",
        "select * from images",
        "select * from finished_jobs",
        "select * from audit",
        "insert into live_jobs select * from live_jobs",
        "insert into lanes values (1, 0, 'alice', 0, 0)",
        "update bucket_marker set bucket = 'mine'",
        "update models set paused_at = now()",
        "update model_versions set state = 'ready'",
        "update model_aliases set alias = 'stable'",
        "delete from attempts",
        "select * from ops.jobs",
        "select cancel_job(gen_random_uuid(), null)",
        "select enqueue_job('lite', 'alice', '', null, null, 0, null, null, null, 1, 1, 1)",
        "select prune_partitions('0')",
        "select grant_privileges()",
        "select * from signed_uploads",
        "select purge_image('alice', '')",
    ] {
        assert_eq!(
            refusal(&mut worker, forbidden).await,
            "42501",
            "{forbidden}"
        );
    }
}

/// A call of every function of `ops` that changes data, and of `explain`.
const ACTIONS: [&str; 21] = [
    "select ops.cancel('job_00000000000000000000000000000000')",
    "select ops.cancel(gen_random_uuid())",
    "select ops.retry('job_00000000000000000000000000000000')",
    "select ops.retry(gen_random_uuid())",
    "select ops.set_priority('job_00000000000000000000000000000000', 1)",
    "select ops.set_priority(gen_random_uuid(), 1)",
    "select ops.purge('job_00000000000000000000000000000000')",
    "select ops.purge(gen_random_uuid())",
    "select ops.explain(gen_random_uuid())",
    "select ops.retry_failed('none')",
    "select ops.pause('none', 'why')",
    "select ops.resume('none')",
    "select ops.drain(0)",
    "select ops.revoke_key('none')",
    "select ops.set_alias('none', 'stable', 1)",
    "select ops.delete_alias('none', 'stable')",
    "select ops.retire('none', 1)",
    "select ops.unretire('none', 1)",
    "select ops.prefetch('none', 1)",
    "select ops.redeliver(gen_random_uuid())",
    "select ops.enqueue('none', 'alice', repeat('0', 64))",
];

#[tokio::test]
async fn darkroom_reader_can_call_no_function_that_changes_data() {
    let db = given::database().await;
    let mut reader = psql(&db, "darkroom_reader").await;
    for action in ACTIONS.iter().filter(|action| !action.contains("explain")) {
        assert_eq!(refusal(&mut reader, action).await, "42501", "{action}");
    }
    let function_count: i64 = sqlx::query_scalar(
        "select count(distinct proname) from pg_proc where pronamespace = 'ops'::regnamespace
             and proname not in ('job_name', 'job_id', 'first_job_id')",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    let named = ACTIONS
        .iter()
        .map(|action| action.split(['.', '(']).nth(1).unwrap());
    let named: std::collections::BTreeSet<_> = named.collect();
    assert_eq!(
        named.len() as i64,
        function_count,
        "ACTIONS must contain every function"
    );
}

/// Each call names a missing row, so the caller gets an error and the audit stays empty.
#[tokio::test]
async fn darkroom_operator_can_call_every_function_that_changes_data() {
    let db = given::database().await;
    let mut operator = psql(&db, "darkroom_operator").await;
    for action in ACTIONS {
        assert_eq!(refusal(&mut operator, action).await, "P0002", "{action}");
    }
    assert_eq!(
        answer(&mut operator, "select count(*)::text from ops.audit").await,
        "0"
    );
}

#[tokio::test]
async fn operators_and_readers_have_no_access_to_tables() {
    let db = given::database().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select oid::regclass::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert!(tables.len() > 15, "{tables:?}");
    for role in ["darkroom_operator", "darkroom_reader"] {
        let mut connection = psql(&db, role).await;
        for table in &tables {
            for statement in [
                format!("select from {table}"),
                format!("delete from {table}"),
            ] {
                assert_eq!(
                    refusal(&mut connection, &statement).await,
                    "42501",
                    "{role}: {statement}"
                );
            }
        }
    }
}

/// A stolen login of the API must not be able to hide what it did.
#[tokio::test]
async fn darkroom_api_cannot_change_the_audit_and_prunes_only_what_is_old() {
    let db = given::database().await;
    let mut api = psql(&db, "darkroom_api").await;
    let acts = "insert into audit (at, actor, role, verb, subject, arguments, outcome)
                select now() - make_interval(days => d), 'ada', 'ada', 'pause', 'lite', '{}', 'paused' from unnest(array[0, 29, 31, 399, 401]) d";
    sqlx::raw_sql(acts).execute(&*db).await.unwrap();
    for forbidden in [
        "delete from audit",
        "update audit set actor = 'bob'",
        "truncate audit",
    ] {
        assert_eq!(refusal(&mut api, forbidden).await, "42501", "{forbidden}");
    }
    for (days, pruned) in [("400", "1"), ("0", "2"), ("-5", "0")] {
        let prune = format!("select prune_audit({days})::text");
        assert_eq!(answer(&mut api, &prune).await, pruned, "{days}");
    }
    let left = answer(&mut api, "select count(*)::text from ops.audit").await;
    assert_eq!(left, "2");
}

/// Postgres lets every role execute a new function until a `revoke`.
#[tokio::test]
async fn no_function_is_executable_by_public() {
    let db = given::database().await;
    let open: Vec<String> = sqlx::query_scalar(
        "select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace in ('public'::regnamespace, 'ops'::regnamespace)
           and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0)",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert!(
        open.is_empty(),
        "grant_privileges() omits these functions: {open:?}"
    );
}

#[tokio::test]
async fn every_security_definer_function_has_a_fixed_search_path() {
    let db = given::database().await;
    let without_search_path: Vec<String> = sqlx::query_scalar(
        "select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace in ('public'::regnamespace, 'ops'::regnamespace) and p.prosecdef
           and not exists (select from unnest(p.proconfig) setting where setting like 'search_path=%pg_temp')",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert!(without_search_path.is_empty(), "{without_search_path:?}");
}
