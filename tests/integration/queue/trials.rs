//! Trials of model versions: a worker loads a version before jobs and aliases may name it.

use jobs::{
    WorkerId,
    models::{self, SetAliasOutcome, Trial, Verdict, VersionState},
    queue::{self, Registration},
};
use sqlx::{AssertSqlSafe, PgPool};
use tests::{Database, clock, given};

/// A database with a model whose version 1 is ready and `default`. Version 2 is validating and wants the alias `stable`.
async fn database() -> Database {
    let db = given::database().await;
    given::model_version(&db, given::MODEL).await;
    run(
        &db,
        "insert into model_versions (model_id, version, digest, task, manifest, files, state, alias_wanted)
         select model_id, 2, sha256('two'), task, manifest, files, 'validating', 'stable' from model_versions",
    )
    .await;
    db
}

async fn run(db: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(db).await.unwrap();
}

async fn text(db: &PgPool, query: impl Into<String>) -> String {
    let query = sqlx::query_scalar(AssertSqlSafe(query.into()));
    let text: Option<String> = query.fetch_one(db).await.unwrap();
    text.unwrap_or_default()
}

async fn state(db: &PgPool) -> String {
    text(db, "select state from model_versions where version = 2").await
}

async fn cause(db: &PgPool) -> String {
    text(
        db,
        "select state_cause from model_versions where version = 2",
    )
    .await
}

/// Aliases of each version, as `1: default`.
async fn aliases(db: &PgPool) -> String {
    text(
        db,
        "select string_agg(format('%s: %s', version, array_to_string(aliases, ' ')), ', ' order by version) from ops.models",
    )
    .await
}

async fn claim(db: &PgPool, worker: WorkerId) -> Option<Trial> {
    models::claim_trial(db, worker, &[]).await.unwrap()
}

async fn end(db: &PgPool, trial: Trial, verdict: Verdict) -> Option<VersionState> {
    models::end_trial(db, trial, &verdict).await.unwrap()
}

/// A new worker claims the trial.
async fn claimed_by(db: &PgPool, name: &str) -> (WorkerId, Trial) {
    let worker = given::worker(db, name).await;
    let trial = claim(db, worker).await.expect("there is no trial to claim");
    (worker, trial)
}

/// A new worker claims the trial and dies.
async fn lost_by(db: &PgPool, name: &str) -> Trial {
    let (worker, trial) = claimed_by(db, name).await;
    clock::lease_ran_out(db, worker).await;
    assert_eq!(models::rescue_trials(db).await.unwrap(), 1);
    trial
}

#[tokio::test]
async fn a_version_that_loads_is_ready_and_gets_the_alias_of_its_push() {
    let db = database().await;
    let (_, trial) = claimed_by(&db, "gpu-1").await;
    assert_eq!(aliases(&db).await, "1: default, 2: ");
    let ended = end(&db, trial, Verdict::Loaded).await;
    assert_eq!(ended, Some(VersionState::Ready));
    assert_eq!(aliases(&db).await, "1: default, 2: stable");
    assert_eq!(end(&db, trial, Verdict::Loaded).await, None, "only once");
    let audit =
        "select concat_ws(' ', actor, verb, subject, arguments, outcome) from audit order by 1";
    assert_eq!(
        text(&db, audit).await,
        r#"worker gpu-1 end_trial lite {"alias": "stable", "version": 2} ready"#
    );
}

#[tokio::test]
async fn a_warning_of_the_trial_stays_with_the_ready_version() {
    let db = database().await;
    let (_, trial) = claimed_by(&db, "gpu-1").await;
    let warning = Verdict::LoadedWithWarning("runs one image at a time".into());
    assert_eq!(end(&db, trial, warning).await, Some(VersionState::Ready));
    assert_eq!(aliases(&db).await, "1: default, 2: stable");
    let version = models::version(&db, trial.version_id).await.unwrap();
    let cause = version.unwrap().state_cause;
    assert_eq!(cause.as_deref(), Some("runs one image at a time"));
}

#[tokio::test]
async fn a_refused_version_keeps_its_cause_and_moves_no_alias() {
    let db = database().await;
    let (_, trial) = claimed_by(&db, "gpu-1").await;
    let refused = Verdict::Refused(format!("no operator\n{}", "é".repeat(3000)));
    assert_eq!(end(&db, trial, refused).await, Some(VersionState::Rejected));
    assert_eq!(aliases(&db).await, "1: default, 2: ");
    assert_eq!(cause(&db).await, "no operator");
    let shown = "select state_worker from ops.models where version = 2";
    assert_eq!(text(&db, shown).await, "gpu-1");
    let worker = given::worker(&db, "gpu-2").await;
    assert_eq!(
        claim(&db, worker).await,
        None,
        "a rejected version is not tried"
    );
}

#[tokio::test]
async fn a_trial_belongs_to_one_worker_until_its_lease_ends() {
    let db = database().await;
    let (first, trial) = claimed_by(&db, "gpu-1").await;
    let other = given::worker(&db, "gpu-2").await;
    assert_eq!(claim(&db, other).await, None);
    assert_eq!(models::rescue_trials(&**db).await.unwrap(), 0);
    clock::lease_ran_out(&db, first).await;
    assert_eq!(models::rescue_trials(&**db).await.unwrap(), 1);
    let taken_over = claim(&db, other).await.unwrap();
    assert_eq!(taken_over.version_id, trial.version_id);
    assert!(taken_over.lease_no.0 > trial.lease_no.0);
}

#[tokio::test]
async fn a_verdict_of_a_worker_that_lost_the_trial_changes_nothing() {
    let db = database().await;
    let late = lost_by(&db, "late").await;
    let (_, fresh) = claimed_by(&db, "fresh").await;
    for verdict in [
        Verdict::Loaded,
        Verdict::Refused("late".into()),
        Verdict::Failed("late".into()),
        Verdict::Released("late".into()),
    ] {
        assert_eq!(end(&db, late, verdict).await, None);
    }
    assert_eq!(state(&db).await, "validating");
    assert_eq!(aliases(&db).await, "1: default, 2: ");
    let ended = end(&db, fresh, Verdict::Refused("fresh".into())).await;
    assert_eq!(ended, Some(VersionState::Rejected));
    assert_eq!(cause(&db).await, "fresh");
}

#[tokio::test]
async fn the_third_worker_that_dies_rejects_the_version() {
    let db = database().await;
    for name in ["a", "b"] {
        lost_by(&db, name).await;
        assert_eq!(state(&db).await, "validating");
    }
    lost_by(&db, "c").await;
    assert_eq!(state(&db).await, "rejected");
    assert_eq!(
        cause(&db).await,
        "no worker could load it in 3 attempts\n\
         c: the worker died while it loaded the version\n\
         b: the worker died while it loaded the version\n\
         a: the worker died while it loaded the version"
    );
    assert_eq!(aliases(&db).await, "1: default, 2: ");
}

#[tokio::test]
async fn a_worker_that_leaves_or_cannot_reach_s3_charges_the_version_nothing() {
    let db = database().await;
    for _ in 0..3 {
        let (worker, _) = claimed_by(&db, "spot").await;
        queue::deregister(&db, worker).await.unwrap();
        assert_eq!(models::rescue_trials(&**db).await.unwrap(), 1);
        let (_, trial) = claimed_by(&db, "gpu-1").await;
        let released = end(&db, trial, Verdict::Released("no S3".into())).await;
        assert_eq!(released, Some(VersionState::Validating));
    }
    let (worker, trial) = claimed_by(&db, "gpu-2").await;
    let failed = end(&db, trial, Verdict::Failed("out of memory".into())).await;
    assert_eq!(failed, Some(VersionState::Validating));
    assert!(
        cause(&db)
            .await
            .starts_with("gpu-2: out of memory\ngpu-1: no S3")
    );
    let passed_over = models::claim_trial(&db, worker, &[trial.version_id]).await;
    assert_eq!(passed_over.unwrap(), None);
}

#[tokio::test]
async fn a_worker_that_hangs_loses_the_trial() {
    let db = database().await;
    claimed_by(&db, "gpu-1").await;
    run(&db, "update model_versions set trial_expires_at = now() - interval '1 second' where version = 2").await;
    assert_eq!(models::rescue_trials(&**db).await.unwrap(), 1);
    assert_eq!(
        cause(&db).await,
        "gpu-1: the worker did not load the version in time"
    );
}

#[tokio::test]
async fn only_a_live_worker_that_runs_the_model_claims_a_trial() {
    let db = database().await;
    let expired = given::worker(&db, "expired").await;
    clock::lease_ran_out(&db, expired).await;
    let left = given::worker(&db, "left").await;
    queue::deregister(&db, left).await.unwrap();
    let draining = given::worker(&db, "draining").await;
    queue::drain(&db, draining, "a test").await.unwrap();
    let other = Registration {
        name: "other".into(),
        device: "cpu test".into(),
        build: "test".into(),
        models: vec!["another".into()],
    };
    let other = queue::register(&db, &other, 60.0).await.unwrap();
    for worker in [expired, left, draining, other] {
        assert_eq!(claim(&db, worker).await, None);
    }
    run(
        &db,
        "update model_versions set retired_at = now() where version = 2",
    )
    .await;
    let worker = given::worker(&db, "gpu-1").await;
    assert_eq!(
        claim(&db, worker).await,
        None,
        "a retired version is not tried"
    );
}

#[tokio::test]
async fn no_alias_moves_to_a_version_that_was_retired_during_its_trial() {
    let db = database().await;
    let (_, trial) = claimed_by(&db, "gpu-1").await;
    models::retire(&db, given::MODEL, 2, "a test")
        .await
        .unwrap();
    assert_eq!(
        end(&db, trial, Verdict::Loaded).await,
        Some(VersionState::Ready)
    );
    assert_eq!(aliases(&db).await, "1: default, 2: ");
}

#[tokio::test]
async fn no_alias_moves_to_a_version_that_is_not_ready() {
    let db = database().await;
    let set = async || {
        let set = models::set_alias(&db, given::MODEL, "default", 2, "a test").await;
        set.unwrap()
    };
    assert_eq!(
        set().await,
        SetAliasOutcome::NotReady(VersionState::Validating)
    );
    let (_, trial) = claimed_by(&db, "gpu-1").await;
    end(&db, trial, Verdict::Refused("broken".into())).await;
    assert_eq!(
        set().await,
        SetAliasOutcome::NotReady(VersionState::Rejected)
    );
    assert_eq!(aliases(&db).await, "1: default, 2: ");
}

#[tokio::test]
async fn no_job_names_a_version_that_is_not_ready() {
    let db = database().await;
    let digest =
        "select 'lite@sha256:' || encode(digest, 'hex') from model_versions where version = 2";
    let digest = text(&db, digest).await;
    for reference in ["lite:2", &digest] {
        let found = models::resolve_all(&**db, &[Some(reference.to_owned())]).await;
        assert!(found.unwrap().is_empty(), "{reference}");
        let unready = models::find_unready(&db, reference).await.unwrap().unwrap();
        assert_eq!(unready.reference, "lite:2");
        assert_eq!(unready.state, VersionState::Validating);
    }
    let waiting = models::find_unready(&db, "lite@stable").await.unwrap();
    assert!(waiting.is_some(), "the alias waits for version 2");
    for other in ["lite@canary", "lite:1", "lite:3"] {
        assert_eq!(models::find_unready(&db, other).await.unwrap(), None);
    }
    models::retire(&db, given::MODEL, 2, "a test")
        .await
        .unwrap();
    for reference in ["lite:2", &digest] {
        let retired = models::find_unready(&db, reference).await.unwrap();
        assert!(retired.unwrap().is_retired, "{reference}");
    }
    let waiting = models::find_unready(&db, "lite@stable").await.unwrap();
    assert_eq!(waiting, None, "no alias moves to a retired version");
}

#[tokio::test]
async fn no_job_of_an_sql_transaction_names_a_version_that_is_not_ready() {
    let db = database().await;
    given::queued(&db, ["cat"]).await; // stores the image
    let image = jobs::Sha256Digest::of(b"cat");
    let enqueue = format!("select ops.enqueue('lite:2', 'alice', '{image}')::text");
    let refused = sqlx::query(AssertSqlSafe(enqueue.clone()))
        .execute(&**db)
        .await;
    let refused = refused.unwrap_err().into_database_error().unwrap();
    assert_eq!(refused.code().as_deref(), Some("P0002"), "{refused}");
    let (_, trial) = claimed_by(&db, "gpu-1").await;
    end(&db, trial, Verdict::Loaded).await;
    assert!(!text(&db, enqueue).await.is_empty());
}

#[tokio::test]
async fn the_last_wish_for_an_alias_counts() {
    let db = database().await;
    let set = models::set_alias(&db, given::MODEL, "stable", 1, "a test").await;
    assert_eq!(set.unwrap(), SetAliasOutcome::Set { from: None });
    let (_, trial) = claimed_by(&db, "gpu-1").await;
    end(&db, trial, Verdict::Loaded).await;
    assert_eq!(aliases(&db).await, "1: default stable, 2: ");
}

#[tokio::test]
async fn the_first_version_of_a_model_becomes_its_default_when_it_is_ready() {
    let db = given::database().await;
    run(
        &db,
        "insert into models (name) values ('lite');
         insert into model_versions (model_id, version, digest, task, manifest, files, state)
         select model_id, 2, sha256('two'), 'classify', '{}', '{}', 'validating' from models",
    )
    .await;
    let unready = models::find_unready(&db, "lite").await.unwrap();
    assert!(
        unready.is_some(),
        "the alias `default` waits for the version"
    );
    let (_, trial) = claimed_by(&db, "gpu-1").await;
    end(&db, trial, Verdict::Loaded).await;
    assert_eq!(aliases(&db).await, "2: default");
    let default = "select name from models where is_default";
    assert_eq!(text(&db, default).await, "lite");
}

#[tokio::test]
async fn the_cause_of_a_failed_load_is_written_once_a_minute_for_a_worker() {
    let db = given::database().await;
    let id = given::model_version(&db, given::MODEL)
        .await
        .model_version_id;
    let note = async |worker: &str, cause: &str| {
        let noted = models::note_load_error(&db, id, worker, cause).await;
        noted.unwrap();
        text(
            &db,
            "select concat_ws(' ', load_error_worker, load_error) from ops.models",
        )
        .await
    };
    assert_eq!(note("gpu-1", "first\0").await, "gpu-1 first");
    assert_eq!(note("gpu-1", "second").await, "gpu-1 first");
    assert_eq!(note("gpu-2", "third").await, "gpu-2 third");
    run(
        &db,
        "update model_versions set load_error_at = now() - interval '61 seconds'",
    )
    .await;
    assert_eq!(note("gpu-2", "fourth").await, "gpu-2 fourth");
    let version = models::version(&db, id).await.unwrap().unwrap();
    assert_eq!(version.load_error.unwrap().cause, "fourth");
    assert_eq!(version.state, VersionState::Ready, "it decides nothing");
}

#[tokio::test]
async fn a_worker_loads_what_an_operator_asked_for_within_ten_minutes() {
    let db = database().await;
    let worker = given::worker(&db, "gpu-1").await;
    let wanted = async || models::wanted_prefetches(&db, worker).await.unwrap();
    assert_eq!(wanted().await, []);
    let prefetch = async |version| {
        let asked = models::prefetch(&db, given::MODEL, version, "a test").await;
        asked.unwrap()
    };
    assert_eq!(
        prefetch(2).await,
        models::PrefetchOutcome::NotReady(VersionState::Validating)
    );
    assert_eq!(prefetch(3).await, models::PrefetchOutcome::NotFound);
    assert_eq!(prefetch(1).await, models::PrefetchOutcome::Asked);
    assert_eq!(wanted().await.len(), 1);
    let count = async || models::count_loaded(&db, given::MODEL, 1).await.unwrap();
    assert_eq!((count().await.workers, count().await.loaded), (1, 0));
    let loaded = queue::LoadedModel {
        model: "lite:1".into(),
        precision: "fp32".into(),
        batch_best: 4,
        artifact: None,
        warning: None,
    };
    queue::report_loaded_models(&db, worker, &[loaded])
        .await
        .unwrap();
    assert_eq!((count().await.workers, count().await.loaded), (1, 1));
    run(
        &db,
        "update model_versions set prefetch_at = now() - interval '11 minutes'",
    )
    .await;
    assert_eq!(wanted().await, []);
}
