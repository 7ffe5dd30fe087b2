//! The four roles: each can do what its programs or people do, and nothing else.

use std::str::FromStr;

use jobs::{
    JobId, Problem, ProblemCode, Sha256Digest, groups, images, keys, models,
    queue::{self, IdempotencyKey, Registration},
    retention::{self, RetentionConfig},
};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tests::{Database, clock, given};

fn options(db: &Database, role: &str) -> PgConnectOptions {
    PgConnectOptions::from_str(db.url())
        .unwrap()
        .options([("role", role)])
}

/// A pool as a login of that role would have.
pub(super) fn acting_as(db: &Database, role: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(4)
        .connect_lazy_with(options(db, role))
}

async fn psql(db: &Database, role: &str) -> PgConnection {
    PgConnection::connect_with(&options(db, role))
        .await
        .unwrap()
}

/// The SQLSTATE that a statement is refused with.
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

/// What any process does for nobody in particular.
async fn housekeeping(db: &PgPool) {
    queue::rescue(db).await.unwrap();
    queue::time_out(db).await.unwrap();
    queue::expire(db).await.unwrap();
    queue::promote(db).await.unwrap();
    queue::forget_keys(db).await.unwrap();
    assert!(jobs::db::make_partitions(db, 5).await.unwrap() > 0);
}

/// One job each for rescue, time-out, expiry and promotion.
async fn work_for_housekeeping(db: &Database) -> [JobId; 4] {
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
async fn darkroom_worker_can_do_all_that_workers_do() {
    let db = given::database().await;
    work_for_housekeeping(&db).await;
    let pool = acting_as(&db, "darkroom_worker");
    housekeeping(&pool).await;
    given::queued(&db, ["a", "b", "c", "d"]).await;
    let registration = Registration {
        name: "w".into(),
        device: "cpu".into(),
        build: "test".into(),
        models: vec![],
    };
    let worker = queue::register(&pool, &registration, 60.0).await.unwrap();
    queue::heartbeat(&pool, worker, 60.0).await.unwrap();
    queue::show_loaded(&pool, worker, &[]).await.unwrap();
    let claims = queue::claim(&pool, worker, &[], 4).await.unwrap();
    assert!(
        models::version(&pool, claims[0].model_version_id)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        queue::complete(&pool, &[given::completion(claims[0].lease, "done")])
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        queue::fail(&pool, &[(claims[1].lease, fault())])
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        queue::retry(&pool, &[(claims[2].lease, fault())])
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        queue::release(&pool, &[claims[3].lease])
            .await
            .unwrap()
            .len(),
        1
    );
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
        "update models set paused_at = now()",
        "delete from attempts",
        "select * from ops.jobs",
        "select cancel_job(gen_random_uuid(), null)",
        "select enqueue_job('lite', 'alice', '', null, null, 0, null, null, null, 1, 1, 1)",
        "select prune_partitions('0')",
        "select grant_privileges()",
    ] {
        assert_eq!(
            refusal(&mut worker, forbidden).await,
            "42501",
            "{forbidden}"
        );
    }
}

#[tokio::test]
async fn darkroom_api_can_do_all_that_the_api_does() {
    let db = given::database().await;
    let [lost, ..] = work_for_housekeeping(&db).await;
    let pool = acting_as(&db, "darkroom_api");
    housekeeping(&pool).await;
    let model = models::resolve(&pool, Some(given::MODEL))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(models::list(&pool).await.unwrap().len(), 1);
    let mut job = given::job(&model, "cat");
    let fingerprint = Sha256Digest::of(b"request");
    job.idempotency = Some(IdempotencyKey {
        key: "key".into(),
        fingerprint,
    });
    queue::enqueue(&pool, std::slice::from_ref(&job))
        .await
        .unwrap();
    assert!(
        queue::earlier(&pool, given::OWNER, "key")
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        images::find(&pool, given::OWNER, job.image.sha256)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        queue::find(&pool, job.id, given::OWNER)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        !queue::list(&pool, given::OWNER, &queue::Filter::default(), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(queue::attempts(&pool, lost).await.unwrap().len(), 1);
    queue::set_priority(&pool, job.id, 3).await.unwrap();
    assert!(queue::explain(&pool, job.id, None).await.unwrap().is_some());
    assert_eq!(
        queue::cancel(&pool, job.id, None).await.unwrap(),
        queue::Canceled::AtOnce
    );
    assert_eq!(
        queue::resubmit(&pool, job.id, None).await.unwrap(),
        queue::Resubmitted::Queued
    );
    queue::cancel(&pool, job.id, None).await.unwrap();
    assert_eq!(
        queue::purge(&pool, job.id, None).await.unwrap(),
        queue::Purged::Done
    );
    let worker = given::worker(&db, "w").await;
    assert_eq!(
        queue::drain(&pool, worker, "api key 1f").await.unwrap(),
        queue::Drained::Draining
    );
    assert!(
        queue::pause(&pool, given::MODEL, None, "api key 1f")
            .await
            .unwrap()
    );
    assert!(
        queue::resume(&pool, given::MODEL, "api key 1f")
            .await
            .unwrap()
    );
    assert!(
        keys::verify(&pool, "dk_unknown_secret")
            .await
            .unwrap()
            .is_none()
    );
    administering(&pool).await;
    assert_eq!(queue::unended(&pool, given::OWNER).await.unwrap(), 3);
    assert!(images::stored_bytes(&pool, given::OWNER).await.unwrap() > 0);
    queue::latency(&pool).await.unwrap();
    assert_eq!(queue::stats(&pool).await.unwrap().len(), 1);
    let all = queue::UsageQuery::default();
    queue::usage(&pool, &all, 10).await.unwrap();
    for view in [
        "queue", "workers", "scaling", "usage", "models", "stuck", "health",
    ] {
        let read = AssertSqlSafe(format!("select * from ops.{view}"));
        sqlx::raw_sql(read).execute(&pool).await.unwrap();
    }
}

/// What admins do through the API.
async fn administering(pool: &PgPool) {
    let new = keys::NewKey {
        name: "n".into(),
        owner: "bob".into(),
        scopes: vec![keys::Scope::Read],
        expires_at: None,
        limits: keys::KeyLimits::default(),
    };
    let made = keys::create(pool, &new, Some("api key 1f")).await.unwrap();
    assert_eq!(keys::list(pool, None, None, 10).await.unwrap().len(), 1);
    assert!(
        keys::revoke(pool, &made.key_id, "api key 1f")
            .await
            .unwrap()
    );
    let set = models::set_alias(pool, given::MODEL, "stable", 1, "api key 1f").await;
    assert_eq!(set.unwrap(), models::Aliased::Set);
    let aliased = models::retire(pool, given::MODEL, 1, "api key 1f").await;
    assert_eq!(aliased.unwrap(), models::Retired::Aliased);
}

#[tokio::test]
async fn darkroom_api_can_do_all_that_it_does_with_groups() {
    let db = given::database().await;
    let pool = acting_as(&db, "darkroom_api");
    let begun = groups::begin(&pool, given::OWNER, &serde_json::Map::new(), Some("batch")).await;
    let groups::Begun::Yes(writer) = begun.unwrap() else {
        panic!("a new key");
    };
    let chunk = groups::Chunk {
        lines: 1,
        sha256: Sha256Digest::of(b"lines"),
        refused: vec![groups::Refusal {
            position: 1,
            custom_id: None,
            problem: fault(),
        }],
    };
    groups::append(&pool, writer, &chunk).await.unwrap();
    groups::resume(&pool, writer.group, given::OWNER, -1.0)
        .await
        .unwrap();
    groups::seal_abandoned(&pool, -1.0).await.unwrap();
    groups::cancel(&pool, writer.group, given::OWNER)
        .await
        .unwrap();
    groups::cancel_some(&pool, None).await.unwrap();
    groups::retry_failed(&pool, writer.group, given::OWNER)
        .await
        .unwrap();
    assert_eq!(groups::finish_due(&pool).await.unwrap().len(), 1);
    assert_eq!(
        groups::results(&pool, writer.group, given::OWNER, 0, 1)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(groups::prune(&pool, 0.0).await.unwrap(), 1);
}

#[tokio::test]
async fn darkroom_api_can_do_all_that_it_does_with_images() {
    let db = given::database().await;
    let (_, store) = given::bucket().await;
    let model = given::model_version(&db, given::MODEL).await;
    let pool = acting_as(&db, "darkroom_api");
    let job = given::job(&model, "cat");
    let sha256 = job.image.sha256;
    assert!(
        images::register(&pool, given::OWNER, &job.image)
            .await
            .unwrap()
    );
    let found = images::find_many(&pool, given::OWNER, &[sha256]).await;
    assert_eq!(found.unwrap().len(), 1);
    let id = job.id;
    queue::enqueue(&pool, std::slice::from_ref(&job))
        .await
        .unwrap();
    let predicted = queue::predicted(&pool.clone().into(), &job, &[id])
        .await
        .unwrap();
    assert_eq!(predicted, Some(queue::Predicted::Joined(id)));
    let key = IdempotencyKey {
        key: "k".into(),
        fingerprint: sha256,
    };
    let remembered = queue::remember_key(&pool, given::OWNER, &key, id).await;
    assert!(remembered.unwrap());
    queue::cancel(&pool, id, None).await.unwrap();
    let purged = images::purge(&pool, &store, given::OWNER, sha256).await;
    assert_eq!(purged.unwrap(), images::Purged::Done);
}

#[tokio::test]
async fn darkroom_api_can_keep_to_the_retention() {
    let db = given::database().await;
    let (_, store) = given::bucket().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    queue::cancel(&db, cat, None).await.unwrap();
    sqlx::query("update finished_jobs set retain_until = now() - interval '1 day'")
        .execute(&*db)
        .await
        .unwrap();
    let config = RetentionConfig {
        tombstone_days: 0.0,
        image_grace_seconds: 0.0,
        event_days: 1.0,
        retention_pause_seconds: 0.0,
    };
    let removed = retention::round(&acting_as(&db, "darkroom_api"), &store, &config)
        .await
        .unwrap();
    assert_eq!(
        (
            removed.purged_jobs,
            removed.pruned_jobs,
            removed.collected_images
        ),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn darkroom_api_can_do_nothing_else() {
    let db = given::database().await;
    let mut api = psql(&db, "darkroom_api").await;
    for forbidden in [
        "select * from audit",
        "delete from api_keys",
        "delete from workers",
        "update workers set lease_until = now()",
        "update models set name = 'other'",
        "update model_versions set manifest = '{}'",
        "delete from images",
        "truncate finished_jobs",
        "select ops.cancel(gen_random_uuid())",
        "select grant_privileges()",
        "create table mine (n int)",
    ] {
        assert_eq!(refusal(&mut api, forbidden).await, "42501", "{forbidden}");
    }
}

/// A call of every function of `ops` that changes something.
const ACTS: [&str; 18] = [
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
    "select ops.retire('none', 1)",
    "select ops.redeliver(gen_random_uuid())",
    "select ops.enqueue('none', 'alice', repeat('0', 64))",
];

#[tokio::test]
async fn a_reader_changes_nothing() {
    let db = given::database().await;
    let mut reader = psql(&db, "darkroom_reader").await;
    for act in ACTS.iter().filter(|act| !act.contains("explain")) {
        assert_eq!(refusal(&mut reader, act).await, "42501", "{act}");
    }
    let acts: i64 = sqlx::query_scalar(
        "select count(distinct proname) from pg_proc where pronamespace = 'ops'::regnamespace
             and proname not in ('job_name', 'job_id', 'first_job_id')",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    let named = ACTS.iter().map(|act| act.split(['.', '(']).nth(1).unwrap());
    let named: std::collections::BTreeSet<_> = named.collect();
    assert_eq!(named.len() as i64, acts, "every function is among ACTS");
}

/// The caller learns what there is not, and no row of the audit says that something was done.
#[tokio::test]
async fn an_operator_may_call_every_function_and_is_told_what_is_not_there() {
    let db = given::database().await;
    let mut operator = psql(&db, "darkroom_operator").await;
    for act in ACTS {
        assert_eq!(refusal(&mut operator, act).await, "P0002", "{act}");
    }
    assert_eq!(
        answer(&mut operator, "select count(*)::text from ops.audit").await,
        "0"
    );
}

#[tokio::test]
async fn an_operator_cannot_touch_the_tables() {
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

/// New functions may be called by everyone until somebody says otherwise.
#[tokio::test]
async fn no_function_of_ours_may_be_called_by_everyone() {
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
        "grant_privileges() does not know them: {open:?}"
    );
}

#[tokio::test]
async fn every_function_with_the_owners_rights_has_a_fixed_search_path() {
    let db = given::database().await;
    let loose: Vec<String> = sqlx::query_scalar(
        "select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace in ('public'::regnamespace, 'ops'::regnamespace) and p.prosecdef
           and not exists (select from unnest(p.proconfig) setting where setting like 'search_path=%pg_temp')",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert!(loose.is_empty(), "{loose:?}");
}
