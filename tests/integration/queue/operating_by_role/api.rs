//! The role of the API.

use jobs::{
    audit::{self, Act},
    manifest::Manifest,
    object_store::Right,
};

use super::*;

#[tokio::test]
async fn darkroom_api_can_run_all_statements_of_the_api() {
    let db = given::database().await;
    let [lost, ..] = make_work_for_housekeeping(&db).await;
    let pool = acting_as(&db, "darkroom_api");
    run_housekeeping(&pool).await;
    let model = given::resolved(&pool, given::MODEL).await;
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
        queue::find_earlier_request(&pool, given::OWNER, "key")
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        given::stored(&pool, given::OWNER, job.image.sha256)
            .await
            .is_some()
    );
    assert!(
        queue::find(&pool, job.id, given::OWNER)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        !queue::list(
            pool.pool(),
            given::OWNER,
            &queue::JobFilter::default(),
            queue::PageSize::of(10)
        )
        .await
        .unwrap()
        .jobs
        .is_empty()
    );
    assert_eq!(queue::attempts(&pool, lost).await.unwrap().len(), 1);
    queue::set_priority(&pool, job.id, 3).await.unwrap();
    assert!(queue::explain(&pool, job.id, None).await.unwrap().is_some());
    assert_eq!(
        queue::cancel(&pool, job.id, None).await.unwrap(),
        queue::CancelOutcome::AtOnce
    );
    assert_eq!(
        queue::retry(&pool, job.id, None).await.unwrap(),
        queue::RetryOutcome::Queued
    );
    queue::cancel(&pool, job.id, None).await.unwrap();
    let again = queue::retry_on_current_version(&pool, job.id, None).await;
    assert_eq!(again.unwrap(), queue::RetryOutcome::Queued);
    queue::cancel(&pool, job.id, None).await.unwrap();
    assert_eq!(
        queue::purge(&pool, job.id, None).await.unwrap(),
        queue::PurgeOutcome::Done
    );
    let worker = given::worker(&db, "w").await;
    assert_eq!(
        queue::drain(&pool, worker, "api key 1f").await.unwrap(),
        queue::DrainOutcome::Draining
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
            .is_err()
    );
    run_audited_statements(&pool, lost).await;
    run_admin_statements(&pool).await;
    assert_eq!(queue::unended(&pool, given::OWNER).await.unwrap(), 3);
    assert!(images::stored_bytes(&pool, given::OWNER).await.unwrap() > 0);
    queue::latency(&pool).await.unwrap();
    queue::fold_history(&pool).await.unwrap();
    assert_eq!(queue::stats(&pool).await.unwrap().len(), 2);
    let all = queue::UsageQuery::default();
    queue::usage(&pool, &all, 10).await.unwrap();
    for view in [
        "queue", "workers", "scaling", "usage", "models", "stuck", "health",
    ] {
        let read = AssertSqlSafe(format!("select * from ops.{view}"));
        sqlx::raw_sql(read).execute(&pool).await.unwrap();
    }
}

#[tokio::test]
async fn darkroom_api_can_keep_the_marker_of_the_bucket() {
    let db = given::database().await;
    given::queued(&db, ["cat"]).await;
    let pool = acting_as(&db, "darkroom_api");
    let (_, store) = given::bucket().await;
    let first = bucket::keep_marker(&pool, &store, false).await.unwrap();
    assert_eq!(first, BucketState::Usable);
    // The rows of this test name images, and the bucket has none of these.
    let (_, other) = given::bucket().await;
    let state = bucket::keep_marker(&pool, &other, false).await.unwrap();
    assert!(matches!(state, BucketState::Refused(_)), "{state:?}");
    let adopted = bucket::keep_marker(&pool, &other, true).await.unwrap();
    assert_eq!(adopted, BucketState::Usable);
    let checked = Checked {
        program: Program::Api,
        process: "host-1",
        state: &state,
        missing_rights: &[Right::List],
    };
    bucket::record(&pool, checked).await.unwrap();
}

/// The statements of admins, which the API runs under its own role.
async fn run_admin_statements(pool: &Db) {
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
    assert_eq!(set.unwrap(), models::SetAliasOutcome::Set { from: None });
    let asked = models::prefetch(pool, given::MODEL, 1, "api key 1f").await;
    assert_eq!(asked.unwrap(), models::PrefetchOutcome::Asked);
    models::count_loaded(pool, given::MODEL, 1).await.unwrap();
    assert_eq!(models::find_unready(pool, "lite:2").await.unwrap(), None);
    let refused = models::retire(pool, given::MODEL, 1, "api key 1f").await;
    let aliases = ["default", "stable"].map(str::to_owned).to_vec();
    assert_eq!(refused.unwrap(), models::RetireOutcome::Aliased { aliases });
    let deleted = models::delete_alias(pool, given::MODEL, "stable", "api key 1f").await;
    assert_eq!(deleted.unwrap(), models::DeleteAliasOutcome::Deleted);
    let unretired = models::unretire(pool, given::MODEL, 1, "api key 1f").await;
    assert!(unretired.unwrap());
    // Of a model that exists, and of a new one.
    for name in [given::MODEL, "new"] {
        let manifest = given::resolved(pool, given::MODEL).await.manifest;
        let manifest = Manifest {
            name: name.into(),
            source: Some("pushed".into()),
            ..manifest
        };
        let version = models::NewVersion::new(manifest, [].into());
        assert!(!models::is_registered(pool, &version).await.unwrap());
        let options = models::PushOptions {
            alias: Some("canary"),
            trial: false,
            actor: Some("api key 1f"),
            signature: None,
        };
        let pushed = models::register(pool, &version, &options).await.unwrap();
        assert!(pushed.is_new && pushed.aliases["canary"] == pushed.version);
    }
}

async fn run_audited_statements(pool: &Db, job: jobs::JobId) {
    keys::note_uses(pool, &["none".into()]).await.unwrap();
    let act = Act {
        actor: None,
        verb: "read_webhook_secret",
        subject: given::OWNER.into(),
        arguments: serde_json::json!({}),
        outcome: "read",
    };
    audit::record(pool, &[act]).await.unwrap();
    assert_eq!(audit::prune(pool, 30).await.unwrap(), 0);
    // The job was rescued, so it waits.
    let deleted = queue::purge_for(pool, job, given::OWNER, "api key 1f").await;
    assert_eq!(deleted.unwrap(), queue::PurgeOutcome::NotTerminal);
}

#[tokio::test]
async fn darkroom_api_can_run_all_statements_about_batches() {
    let db = given::database().await;
    let pool = acting_as(&db, "darkroom_api");
    let begun = batches::begin(&pool, given::OWNER, &serde_json::Map::new(), Some("batch")).await;
    let batches::BeginOutcome::Yes(writer) = begun.unwrap() else {
        panic!("the key must be new");
    };
    let chunk = batches::Chunk {
        lines: 1,
        sha256: Sha256Digest::of(b"lines"),
        refused: vec![batches::Refusal {
            position: 1,
            custom_id: None,
            problem: fault(),
        }],
    };
    batches::append(&pool, writer, &chunk).await.unwrap();
    batches::resume(&pool, writer.batch, given::OWNER, -1.0)
        .await
        .unwrap();
    batches::seal_abandoned(&pool, -1.0).await.unwrap();
    batches::cancel(&pool, writer.batch, given::OWNER)
        .await
        .unwrap();
    batches::cancel_some(&pool, None).await.unwrap();
    batches::retry_failed(&pool, writer.batch, given::OWNER, false)
        .await
        .unwrap();
    assert_eq!(batches::finish_due(&pool).await.unwrap().len(), 1);
    assert_eq!(
        batches::results(pool.pool(), writer.batch, given::OWNER, 0, 1)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(batches::prune(&pool, 0.0).await.unwrap(), 1);
}

#[tokio::test]
async fn darkroom_api_can_run_all_statements_about_images() {
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
    let predicted = queue::find_matching_job(&pool.clone().into(), &job, &[id])
        .await
        .unwrap();
    assert_eq!(predicted, Some(queue::MatchingJob::Joined(id)));
    let key = IdempotencyKey {
        key: "k".into(),
        fingerprint: sha256,
    };
    let remembered = queue::remember_key(&pool, given::OWNER, &key, id).await;
    assert!(remembered.unwrap());
    queue::cancel(&pool, id, None).await.unwrap();
    let is_intact = images::check(&pool, &store, given::OWNER, &job.image).await;
    assert!(!is_intact.unwrap());
    images::note_replaced(&pool, given::OWNER, &job.image)
        .await
        .unwrap();
    let purged = images::purge(&pool, &store, given::OWNER, sha256, None).await;
    assert_eq!(purged.unwrap(), images::PurgeOutcome::Done);
}

#[tokio::test]
async fn darkroom_api_can_run_all_statements_about_signed_uploads() {
    let db = given::database().await;
    let (_, store) = given::bucket().await;
    let model = given::model_version(&db, given::MODEL).await;
    let api = acting_as(&db, "darkroom_api");
    let image = given::job(&model, "cat").image;
    let terms = images::UploadTerms {
        url_seconds: 900.0,
        name_seconds: 1800.0,
        uploads_max: 10,
    };
    let signed = images::SignedUpload {
        upload: image.upload,
        bytes: image.bytes,
    };
    let (owner, sha256) = (given::OWNER, image.sha256);
    let recorded = images::record_signed_upload(&api, owner, sha256, signed, terms).await;
    assert!(recorded.unwrap());
    let renewed = images::renew_signed_upload(&api, owner, sha256, image.bytes, terms).await;
    assert_eq!(renewed.unwrap(), Some(image.upload));
    let found = images::signed_uploads(&api, owner, sha256).await;
    assert_eq!(found.unwrap(), [signed]);
    let named = images::name_signed_upload(&api, owner, &image).await;
    assert!(named.unwrap());
    images::record_replacement(&api, owner, &image, terms)
        .await
        .unwrap();
    let purged = images::purge(&api, &store, owner, sha256, None).await;
    assert_eq!(purged.unwrap(), images::PurgeOutcome::Done);
    sqlx::query("update signed_uploads set expires_at = now() - interval '1 h', lapses_at = now() - interval '1 h'")
        .execute(&*db)
        .await
        .unwrap();
    let swept = images::sweep_signed_uploads(&api, &store).await;
    assert_eq!(swept.unwrap(), 1);
}

#[tokio::test]
async fn darkroom_api_can_run_all_statements_of_retention() {
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
        lost_image_hours: 24.0,
        retention_pause_seconds: 0.0,
    };
    let api = acting_as(&db, "darkroom_api");
    let removed = retention::round(&api, &store, &config)
        .await
        .into_result()
        .unwrap();
    assert_eq!((removed.purged_jobs, removed.collected_images), (1, 1));
    assert_eq!(removed.pruned_jobs, 0, "the partition of today must stay");
    sqlx::query("update finished_jobs set purged_at = now() - interval '1 day'")
        .execute(&*db)
        .await
        .unwrap();
    let removed = retention::round(&api, &store, &config)
        .await
        .into_result()
        .unwrap();
    assert_eq!(removed.pruned_jobs, 1);
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
        "update model_versions set state = 'ready'",
        "delete from model_versions",
        "delete from images",
        "truncate finished_jobs",
        "select ops.cancel(gen_random_uuid())",
        "select grant_privileges()",
        "create table mine (n int)",
    ] {
        assert_eq!(refusal(&mut api, forbidden).await, "42501", "{forbidden}");
    }
}
