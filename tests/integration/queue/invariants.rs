//! Invariants of several verbs: lease numbers, owners, constraints, clocks, the disk.

use bytes::Bytes;
use jobs::{
    JobId, JobState, Problem, ProblemCode, Sha256Digest,
    db::StatementPool,
    object_store::{Body, StoreError},
    queue::{
        self, CHANGED_CHANNEL, CancelOutcome, IdempotencyKey, JobFilter, Notifier, PurgeOutcome,
        RetryOutcome,
    },
};
use sqlx::{Either, Executor, PgPool, SqlSafeStr, Statement, TypeInfo, postgres::PgListener};
use tests::{clock, dump, given};

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

/// I6: each claim has a new lease number, and each verb that takes a job from its worker makes that number stale.
#[tokio::test]
async fn a_job_never_gets_one_lease_number_twice() {
    let db = given::database().await;
    let job = given::queued_with(&db, "cat", |job| job.attempts_max = 9).await;
    let mut latest = 0;
    for verb in ["release", "rescue", "retry", "time_out", "release"] {
        let held = given::claimed_by(&db, verb).await;
        let claimed = held.lease().lease_no.0;
        assert!(claimed > latest, "claim before {verb}: {claimed}");
        match verb {
            "release" => drop(
                tests::settling::release(&db, &[held.lease()])
                    .await
                    .unwrap(),
            ),
            "retry" => drop(
                tests::settling::retry(&db, &[(held.lease(), fault())])
                    .await
                    .unwrap(),
            ),
            "rescue" => {
                clock::lease_ran_out(&db, held.worker).await;
                queue::rescue(&*db).await.unwrap();
            }
            _ => {
                clock::attempt_ran_too_long(&db, job).await;
                queue::time_out(&*db).await.unwrap();
            }
        }
        let found = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        latest = found.lease_no.0;
        assert!(latest > claimed, "{verb}: {latest} after {claimed}");
        if ["retry", "time_out"].contains(&verb) {
            clock::came_due(&db, job).await;
            queue::promote(&*db).await.unwrap();
        }
    }
}

/// I3: only a retry by hand changes an ended job, and never a succeeded job.
#[tokio::test]
async fn no_verb_changes_a_job_that_succeeded() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    let done = [held.completion("first")];
    tests::settling::complete(&db, &done).await.unwrap();
    let row = || async {
        let row = sqlx::query_scalar("select to_jsonb(f) from finished_jobs f");
        let row: serde_json::Value = row.fetch_one(&*db).await.unwrap();
        (row, dump(&db).await)
    };
    let before = row().await;
    clock::lease_ran_out(&db, held.worker).await;
    let second = [held.completion("second")];
    assert_eq!(tests::settling::complete(&db, &second).await.unwrap(), []);
    let fault = [(held.lease(), fault())];
    assert_eq!(tests::settling::fail(&db, &fault).await.unwrap(), []);
    assert_eq!(tests::settling::retry(&db, &fault).await.unwrap(), []);
    assert_eq!(
        tests::settling::release(&db, &[held.lease()])
            .await
            .unwrap(),
        []
    );
    assert_eq!(queue::rescue(&*db).await.unwrap(), []);
    assert_eq!(queue::time_out(&*db).await.unwrap(), []);
    assert_eq!(queue::promote(&*db).await.unwrap(), []);
    assert_eq!(queue::expire(&*db).await.unwrap(), []);
    let canceled = queue::cancel(&db, cat, None).await.unwrap();
    assert_eq!(canceled, CancelOutcome::Terminal(JobState::Succeeded));
    let again = queue::retry(&db, cat, None).await.unwrap();
    assert_eq!(again, RetryOutcome::Succeeded);
    assert_eq!(row().await, before);
}

/// For an owner, the jobs, keys and images of other owners do not exist.
#[tokio::test]
async fn owners_do_not_see_each_others_jobs() {
    let db = given::database().await;
    let fingerprint = Sha256Digest::of(b"what was asked");
    let finished = given::queued_with(&db, "finished", |job| {
        let key = "alice's".into();
        job.idempotency = Some(IdempotencyKey { key, fingerprint });
    })
    .await;
    let held = given::claimed_by(&db, "w").await;
    let done = [held.completion("done")];
    tests::settling::complete(&db, &done).await.unwrap();
    let live = given::queued_with(&db, "live", |_| {}).await;
    let bobs = given::queued_with(&db, "bobs", |job| job.owner = "bob".into()).await;
    for (owner, mine, others) in [
        (given::OWNER, vec![live, finished], vec![bobs]),
        ("bob", vec![bobs], vec![live, finished]),
    ] {
        for job in &mine {
            assert!(queue::find(&db, *job, owner).await.unwrap().is_some());
        }
        for job in &others {
            let found = queue::find(&db, *job, owner).await.unwrap();
            assert!(found.is_none(), "{owner} sees {found:?}");
        }
        let size = queue::PageSize::of(100);
        let listed = queue::list(db.pool(), owner, &JobFilter::default(), size).await;
        let listed: Vec<JobId> = listed.unwrap().jobs.into_iter().map(|job| job.id).collect();
        assert_eq!(listed, mine, "{owner}, newest first");
        let is_visible = owner == given::OWNER;
        let key = queue::find_earlier_request(&db, owner, "alice's")
            .await
            .unwrap();
        assert_eq!(key.is_some(), is_visible, "{owner}");
        let image = given::stored(&db, owner, Sha256Digest::of(b"live")).await;
        assert_eq!(image.is_some(), is_visible, "{owner}");
    }
}

#[tokio::test]
async fn owners_do_not_change_each_others_jobs() {
    let db = given::database().await;
    let [failed, queued] = given::queued(&db, ["failed", "queued"]).await;
    let held = given::claimed_by(&db, "w").await;
    let fault = [(held.lease(), fault())];
    assert_eq!(tests::settling::fail(&db, &fault).await.unwrap(), [failed]);
    let before = dump(&db).await;
    let other_owner = Some("bob");
    for job in [failed, queued] {
        let canceled = queue::cancel(&db, job, other_owner).await.unwrap();
        assert_eq!(canceled, CancelOutcome::NotFound);
        let again = queue::retry(&db, job, other_owner).await.unwrap();
        assert_eq!(again, RetryOutcome::NotFound);
        let purged = queue::purge(&db, job, other_owner).await.unwrap();
        assert_eq!(purged, PurgeOutcome::NotFound);
    }
    assert_eq!(dump(&db).await, before);
}

/// I7, I9: the digest is checked when bytes are stored, and again when bytes are read.
#[tokio::test]
async fn bytes_that_do_not_match_their_digest_are_neither_stored_nor_read() {
    let (_, store) = given::bucket().await;
    let (cat, dog) = (Bytes::from_static(b"cat"), Bytes::from_static(b"dog"));
    let (of_cat, of_dog) = (Sha256Digest::of(&cat), Sha256Digest::of(&dog));
    let put = async |digest| {
        let put = store.put("images/pet", Body::Memory(&cat), digest, "image/jpeg");
        put.await
    };
    assert!(
        put(of_dog).await.is_err(),
        "the store must refuse bytes of another digest"
    );
    assert!(!store.exists("images/pet").await.unwrap());
    put(of_cat).await.unwrap();
    assert_eq!(store.get("images/pet", of_cat).await.unwrap(), cat);
    let other = store.get("images/pet", of_dog).await;
    assert!(matches!(other, Err(StoreError::Corrupt(_))), "{other:?}");
}

/// The last line of defense: each statement shows a verb with a fault.
#[tokio::test]
async fn the_tables_refuse_invalid_states() {
    let db = given::database().await;
    given::queued(&db, ["cat", "dog"]).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    sqlx::raw_sql("insert into idempotency_keys (owner, key, fingerprint, job_id) values ('alice', 'k', sha256(''), gen_random_uuid())")
        .execute(&*db)
        .await
        .unwrap();
    let refused = [
        (
            "live_jobs_pkey",
            "insert into live_jobs select * from live_jobs",
        ),
        (
            "live_means_not_terminal",
            "update live_jobs set state = 'failed'",
        ),
        (
            "held_by_a_worker_exactly_while_running",
            "update live_jobs set state = 'running', claimed_at = now()",
        ),
        (
            "claimed_at_exactly_while_running",
            "update live_jobs set state = 'running', worker_id = 1",
        ),
        (
            "charged_within_budget",
            "update live_jobs set attempts_charged = attempts_max + 1",
        ),
        (
            "interruptions_within_budget",
            "update live_jobs set interruptions = interruptions_max + 1",
        ),
        (
            "finished_jobs_pkey",
            "insert into finished_jobs select * from finished_jobs",
        ),
        (
            "finished_means_terminal",
            "update finished_jobs set state = 'queued', result = null",
        ),
        (
            "a_result_exactly_when_succeeded",
            "update finished_jobs set result = null",
        ),
        (
            "a_result_exactly_when_succeeded",
            "update finished_jobs set state = 'canceled'",
        ),
        (
            "a_problem_when_failed",
            "update finished_jobs set state = 'failed', result = null, problem = null",
        ),
        (
            "idempotency_keys_pkey",
            "insert into idempotency_keys select * from idempotency_keys",
        ),
    ];
    for (constraint, statement) in refused {
        let outcome = sqlx::raw_sql(statement).execute(&*db).await;
        let error = outcome.expect_err(statement).into_database_error().unwrap();
        let broken = error.constraint().unwrap_or_default();
        // The primary key of the archive has the name of the day's partition.
        let partition = constraint == "finished_jobs_pkey" && broken.starts_with("finished_jobs_");
        assert!(broken == constraint || partition, "{statement}: {error}");
    }
}

/// The types of those parameters of `statement` that are times.
async fn time_parameters(db: &PgPool, statement: &'static str) -> Vec<String> {
    let prepared = db.prepare(statement.into_sql_str()).await.unwrap();
    let Some(Either::Left(types)) = prepared.parameters() else {
        panic!("Postgres must name the types of parameters")
    };
    let names = types.iter().map(|one| one.name().to_lowercase());
    names
        .filter(|name| name.contains("time") || name.contains("date"))
        .collect()
}

/// I17: a worker sends durations and no times, so the clock of the worker does not matter.
#[tokio::test]
async fn no_statement_of_a_worker_has_a_time_parameter() {
    let db = given::database().await;
    let verbs = [
        include_str!("../../../jobs/src/queue/register.sql"),
        include_str!("../../../jobs/src/queue/heartbeat.sql"),
        include_str!("../../../jobs/src/queue/claim.sql"),
        include_str!("../../../jobs/src/queue/settle.sql"),
        include_str!("../../../jobs/src/queue/rescue.sql"),
        include_str!("../../../jobs/src/queue/time_out.sql"),
        include_str!("../../../jobs/src/queue/promote.sql"),
        include_str!("../../../jobs/src/queue/expire.sql"),
        include_str!("../../../jobs/src/models/claim_trial.sql"),
        include_str!("../../../jobs/src/models/end_trial.sql"),
        include_str!("../../../jobs/src/models/rescue_trials.sql"),
        include_str!("../../../jobs/src/models/note_load_error.sql"),
    ];
    for verb in verbs {
        assert_eq!(time_parameters(&db, verb).await, [""; 0], "{verb}");
    }
    let with_a_time_parameter = "update workers set lease_until = $2 where worker_id = $1";
    let found = time_parameters(&db, with_a_time_parameter).await;
    assert_eq!(
        found,
        ["timestamptz"],
        "the check must find a time parameter"
    );
}

/// I21: wake-ups may be lost and acknowledged jobs may not, although both use one connection.
#[tokio::test]
async fn all_commits_but_wake_ups_wait_for_the_disk() {
    let db = given::database().await;
    let mut listener = PgListener::connect_with(&db).await.unwrap();
    listener.listen(CHANGED_CHANNEL).await.unwrap();
    let statement_pool = StatementPool::with_one_plan(db.another_pool());
    let notifier = Notifier::start(statement_pool.clone());
    notifier.changed([JobId::now()]);
    let heard = listener.recv().await.unwrap();
    // Waits until the current round of wake-ups is sent.
    notifier.flush().await;
    let mut connection = statement_pool.take().await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(
        pid as u32,
        heard.process_id(),
        "the pool must return the connection of the wake-up"
    );
    for setting in ["synchronous_commit", "fsync", "full_page_writes"] {
        let shown: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(shown, "on", "{setting}");
    }
}
