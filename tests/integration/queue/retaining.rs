//! Retention: purge leaves tombstones, prune removes tombstones, collect deletes images that no job needs.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use insta::assert_snapshot;
use jobs::{
    JobId, Sha256Digest,
    images::{self, object_key},
    object_store::{Body, ObjectStore},
    orphans,
    queue::{self, QueueError},
};
use serde_json::json;
use sqlx::PgPool;
use tests::{dump, given};
use uuid::Uuid;

/// Moves the end of the retention of every finished job into the past.
async fn end_retention(db: &PgPool) {
    sqlx::query("update finished_jobs set retain_until = now() - interval '1 second'")
        .execute(db)
        .await
        .unwrap();
}

async fn finished_job(db: &PgPool, name: &str) -> JobId {
    given::queued(db, [name]).await;
    let held = given::claimed_by(db, "w").await;
    let done = tests::settling::complete(db, &[held.completion("cat")])
        .await
        .unwrap();
    assert_eq!(done, [held.job_id()]);
    held.job_id()
}

/// Stores the bytes of the image `name` under `upload` and returns the object key.
async fn store_image(store: &ObjectStore, name: &str, upload: Uuid) -> String {
    let bytes = Bytes::copy_from_slice(name.as_bytes());
    let sha256 = Sha256Digest::of(name.as_bytes());
    let key = object_key(given::OWNER, sha256, upload);
    let put = store.put(&key, Body::Memory(&bytes), sha256, "image/jpeg");
    put.await.unwrap();
    key
}

async fn upload_of(db: &PgPool, name: &str) -> Option<Uuid> {
    let sha256 = Sha256Digest::of(name.as_bytes());
    let found = given::stored(db, given::OWNER, sha256).await;
    found.map(|stored| stored.image.upload)
}

#[tokio::test]
async fn a_job_past_its_retention_is_purged_and_leaves_a_tombstone() {
    let db = given::database().await;
    let job = finished_job(&db, "cat.jpg").await;
    assert_eq!(queue::purge_due(&db).await.unwrap(), 0);
    end_retention(&db).await;
    assert_eq!(queue::purge_due(&db).await.unwrap(), 1);
    assert_eq!(queue::purge_due(&db).await.unwrap(), 0);
    let job = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
    assert!(job.purged_at.is_some());
    assert_eq!(job.result, None);
    assert_eq!((job.params, job.metadata), (json!({}), json!({})));
    // `dump` names a job by its metadata, which is purged.
    assert_snapshot!(dump(&db).await, @"? succeeded lease=1 charged=1/3 interruptions=0/3 worker=w");
}

#[tokio::test]
async fn an_old_tombstone_is_pruned() {
    let db = given::database().await;
    let job = finished_job(&db, "cat.jpg").await;
    end_retention(&db).await;
    queue::purge_due(&db).await.unwrap();
    assert_eq!(queue::prune(&db, 3600.0).await.unwrap(), 0);
    sqlx::query("update finished_jobs set purged_at = now() - interval '2 hours'")
        .execute(&*db)
        .await
        .unwrap();
    assert_eq!(queue::prune(&db, 3600.0).await.unwrap(), 1);
    assert!(queue::find(&db, job, given::OWNER).await.unwrap().is_none());
}

/// A job that was submitted, finished and purged on `day`.
async fn tombstone_of(db: &PgPool, day: DateTime<Utc>) -> JobId {
    let millis = day.timestamp_millis().cast_unsigned();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, millis / 1000, 0);
    let job = given::queued_with(db, "old", |job| job.id = Uuid::new_v7(time).into()).await;
    queue::cancel(db, job, None).await.unwrap();
    sqlx::query("update finished_jobs set purged_at = $2 where job_id = $1")
        .bind(job.uuid())
        .bind(day)
        .execute(db)
        .await
        .unwrap();
    job
}

async fn make_partition_of(db: &PgPool, day: DateTime<Utc>) {
    // The bounds of a partition must be constants.
    let bound = |at: DateTime<Utc>| async move {
        let at = at.date_naive().and_hms_opt(0, 0, 0).unwrap().and_utc();
        let id = sqlx::query_scalar("select uuid_from_time($1)").bind(at);
        let id: Uuid = id.fetch_one(db).await.unwrap();
        id
    };
    let (from, to) = (bound(day).await, bound(day + TimeDelta::days(1)).await);
    for table in ["finished_jobs", "attempts"] {
        let name = format!("{table}_{}", day.format("%Y%m%d"));
        let create = format!(
            "create table {name} partition of {table} for values from ('{from}') to ('{to}')"
        );
        let create = sqlx::query(sqlx::AssertSqlSafe(create));
        create.execute(db).await.unwrap();
    }
}

#[tokio::test]
async fn a_day_with_only_old_tombstones_is_dropped() {
    let db = given::database().await;
    let (old_day, younger_day) = (
        Utc::now() - TimeDelta::days(90),
        Utc::now() - TimeDelta::days(80),
    );
    make_partition_of(&db, old_day).await;
    make_partition_of(&db, younger_day).await;
    let old = tombstone_of(&db, old_day).await;
    let young = tombstone_of(&db, younger_day).await;
    sqlx::query("update finished_jobs set purged_at = null where job_id = $1")
        .bind(young.uuid())
        .execute(&*db)
        .await
        .unwrap();
    assert_eq!(queue::prune_days(&db, 86_400.0).await.unwrap(), 1);
    assert!(queue::find(&db, old, given::OWNER).await.unwrap().is_none());
    let found = queue::find(&db, young, given::OWNER).await.unwrap();
    assert!(
        found.is_some(),
        "a partition with a job that is not purged must stay"
    );
}

#[tokio::test]
async fn an_image_is_collected_after_its_last_job_is_purged() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    let first = finished_job(&db, "cat.jpg").await;
    let upload = upload_of(&db, "cat.jpg").await.unwrap();
    let key = store_image(&store, "cat.jpg", upload).await;
    let second = finished_job(&db, "cat.jpg").await;
    for (job, left) in [(first, 0), (second, 1)] {
        sqlx::query(
            "update finished_jobs set retain_until = now() - interval '1 second' where job_id = $1",
        )
        .bind(job.uuid())
        .execute(&*db)
        .await
        .unwrap();
        queue::purge_due(&db).await.unwrap();
        // A negative grace period ends at once.
        assert_eq!(images::collect(&db, &store, -1.0).await.unwrap(), left);
    }
    assert!(!store.exists(&key).await.unwrap());
    assert_eq!(upload_of(&db, "cat.jpg").await, None);
}

#[tokio::test]
async fn a_look_up_renews_the_grace_of_an_unneeded_image() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    finished_job(&db, "cat.jpg").await;
    end_retention(&db).await;
    queue::purge_due(&db).await.unwrap();
    sqlx::query("update images set unused_since = now() - interval '2 hours'")
        .execute(&*db)
        .await
        .unwrap();
    assert!(upload_of(&db, "cat.jpg").await.is_some());
    assert_eq!(images::collect(&db, &store, 3600.0).await.unwrap(), 0);
}

/// I8: a live job protects its image even if the job count of the image is wrong.
#[tokio::test]
async fn the_image_of_a_live_job_is_never_collected() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    given::queued(&db, ["cat.jpg"]).await;
    sqlx::query("update images set jobs = 0, unused_since = now() - interval '1 year'")
        .execute(&*db)
        .await
        .unwrap();
    assert_eq!(images::collect(&db, &store, 0.0).await.unwrap(), 0);
}

/// I8: the API found the image and skipped the upload; then the image was collected; then the job was enqueued.
#[tokio::test]
async fn a_submit_of_a_collected_image_is_refused_and_leaves_no_row() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    finished_job(&db, "cat.jpg").await;
    let model = given::model_version(&db, given::MODEL).await;
    let mut late = given::job(&model, "cat.jpg");
    late.image.upload = upload_of(&db, "cat.jpg").await.unwrap();
    end_retention(&db).await;
    queue::purge_due(&db).await.unwrap();
    assert_eq!(images::collect(&db, &store, -1.0).await.unwrap(), 1);

    late.idempotency = Some(queue::IdempotencyKey {
        key: "once".into(),
        fingerprint: Sha256Digest::of(b"request"),
    });
    let refused = queue::enqueue(&db, std::slice::from_ref(&late)).await;
    assert!(
        matches!(refused, Err(QueueError::ImagePurged)),
        "{refused:?}"
    );
    let key = queue::find_earlier_request(&db, given::OWNER, "once")
        .await
        .unwrap();
    assert!(key.is_none(), "the refusal must not use up the key");

    late.image.upload = Uuid::now_v7();
    let again = queue::enqueue(&db, std::slice::from_ref(&late)).await;
    assert_eq!(again.unwrap().len(), 1);
    assert_eq!(upload_of(&db, "cat.jpg").await, Some(late.image.upload));
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(held.claim.image_upload, late.image.upload);
}

#[tokio::test]
async fn a_second_upload_of_equal_bytes_does_not_replace_the_first() {
    let db = given::database().await;
    given::queued(&db, ["cat.jpg"]).await;
    let first = upload_of(&db, "cat.jpg").await;
    given::queued(&db, ["cat.jpg"]).await;
    assert_eq!(upload_of(&db, "cat.jpg").await, first);
}

#[tokio::test]
async fn an_object_that_no_row_names_is_swept_after_a_grace() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    given::queued(&db, ["cat.jpg"]).await;
    let upload = upload_of(&db, "cat.jpg").await.unwrap();
    let named = store_image(&store, "cat.jpg", upload).await;
    let raced = store_image(&store, "cat.jpg", Uuid::now_v7()).await;
    let crashed = store_image(&store, "dog.jpg", Uuid::now_v7()).await;
    let swept = orphans::sweep(&db, &store, 3600.0, -1.0).await.unwrap();
    assert_eq!(swept, Some(0), "within the grace period");
    let turn = orphans::sweep(&db, &store, -60.0, 3600.0).await.unwrap();
    assert_eq!(
        turn, None,
        "all processes together sweep one page in each pause"
    );
    let swept = orphans::sweep(&db, &store, -60.0, -1.0).await.unwrap();
    assert_eq!(swept, Some(2));
    for (key, exists) in [(named, true), (raced, false), (crashed, false)] {
        assert_eq!(store.exists(&key).await.unwrap(), exists, "{key}");
    }
}
