//! Images whose object is lost or has other bytes, and deletes that race with uploads.

use bytes::Bytes;
use jobs::{
    Problem, ProblemCode, Sha256Digest,
    images::{self, Image, PurgeOutcome, SignedUpload, Suspicion, UploadTerms, object_key},
    object_store::{Body, ObjectStore, StoreConfig},
    queue::{self, Outcome, QueueError, Settlement},
};
use serde_json::Value;
use sqlx::PgPool;
use tests::{clock, given};
use uuid::Uuid;

const TERMS: UploadTerms = UploadTerms {
    url_seconds: 900.0,
    name_seconds: 1800.0,
    uploads_max: 10,
};

/// The image that [`given::queued`] makes of this name.
async fn image_of(db: &PgPool, name: &str) -> Image {
    let sha256 = Sha256Digest::of(name.as_bytes());
    let stored = given::stored(db, given::OWNER, sha256).await;
    stored.expect("the image is stored").image
}

async fn suspicion(db: &PgPool, name: &str) -> Option<Suspicion> {
    let sha256 = Sha256Digest::of(name.as_bytes());
    let stored = given::stored(db, given::OWNER, sha256).await;
    stored.expect("the image is stored").suspicion
}

async fn put(store: &ObjectStore, image: &Image, bytes: &'static [u8]) {
    let key = object_key(given::OWNER, image.sha256, image.upload);
    let (bytes, sha256) = (Bytes::from_static(bytes), Sha256Digest::of(bytes));
    let put = store.put(&key, Body::Memory(&bytes), sha256, "image/jpeg");
    put.await.unwrap();
}

/// Gives the row the length of the name, which the tests store as the image.
async fn set_length(db: &PgPool, name: &str) {
    sqlx::query("update images set bytes = $1 where sha256 = $2")
        .bind(name.len() as i64)
        .bind(Sha256Digest::of(name.as_bytes()).as_bytes().as_slice())
        .execute(db)
        .await
        .unwrap();
}

async fn report(db: &PgPool, image: &Image) {
    let report = images::report(db, given::OWNER, image.sha256, image.upload);
    report.await.unwrap();
}

fn absent() -> Problem {
    Problem::new(ProblemCode::ServiceUnavailable, "no object")
}

#[tokio::test]
async fn a_postponed_attempt_is_not_charged_and_its_job_backs_off() {
    let db = given::database().await;
    let [job] = given::queued(&db, ["cat"]).await;
    for times in 1..=4_i16 {
        // An attempt that was released does not make the next wait longer.
        let released = Settlement {
            lease: given::claimed_by(&db, "w").await.lease(),
            outcome: Outcome::Released,
        };
        queue::settle(&*db, &[released]).await.unwrap();
        let held = given::claimed_by(&db, "w").await;
        let postponed = Settlement {
            lease: held.lease(),
            outcome: Outcome::Postponed(absent()),
        };
        let settled = queue::settle(&*db, &[postponed]).await.unwrap();
        assert_eq!(settled, [job]);
        let found = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        assert_eq!(found.state, jobs::JobState::Scheduled);
        assert_eq!(
            (found.attempts_started, found.attempts_charged),
            (2 * times, 0)
        );
        assert_eq!(found.problem.unwrap()["code"], "service_unavailable");
        let wait = (found.run_at - chrono::Utc::now()).as_seconds_f64();
        let longest = 1.25 * f64::from(1 << (times - 1));
        assert!(wait < longest + 0.1 && wait > longest / 4.0, "{wait}");
        clock::came_due(&db, job).await;
        queue::promote(&*db).await.unwrap();
    }
}

#[tokio::test]
async fn a_job_whose_cancel_was_requested_is_not_postponed() {
    let db = given::database().await;
    let [job] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    queue::cancel(&db, job, None).await.unwrap();
    let postponed = Settlement {
        lease: held.lease(),
        outcome: Outcome::Postponed(absent()),
    };
    queue::settle(&*db, &[postponed]).await.unwrap();
    let found = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
    assert_eq!(found.state, jobs::JobState::Canceled);
}

#[tokio::test]
async fn the_api_looks_for_itself_at_an_image_that_a_worker_reports() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    given::queued(&db, ["there", "lost", "other"]).await;
    for name in ["there", "lost", "other"] {
        set_length(&db, name).await;
        report(&db, &image_of(&db, name).await).await;
        assert_eq!(suspicion(&db, name).await, Some(Suspicion::Reported));
    }
    put(&store, &image_of(&db, "there").await, b"there").await;
    put(&store, &image_of(&db, "other").await, b"rehto").await;
    assert_eq!(images::check_reported(&db, &store).await.unwrap(), 3);
    assert_eq!(images::check_reported(&db, &store).await.unwrap(), 0);
    assert_eq!(suspicion(&db, "there").await, None);
    for (name, bytes) in [("lost", &b"lost"[..]), ("other", &b"other"[..])] {
        assert_eq!(suspicion(&db, name).await, Some(Suspicion::Damaged));
        put(&store, &image_of(&db, name).await, bytes).await;
    }
    sqlx::query("update images set checked_at = now() - interval '1 h'")
        .execute(&*db)
        .await
        .unwrap();
    assert_eq!(images::check_reported(&db, &store).await.unwrap(), 2);
    for name in ["lost", "other"] {
        assert_eq!(suspicion(&db, name).await, None, "an operator put it back");
    }
}

/// Else the image that cannot be read would be the first one at each look.
#[tokio::test]
async fn an_image_that_cannot_be_checked_does_not_keep_the_others_waiting() {
    let db = given::database().await;
    let nowhere = ObjectStore::connect(&StoreConfig::of_bucket("never-made")).await;
    let nowhere = nowhere.unwrap();
    given::queued(&db, ["cat", "dog"]).await;
    for name in ["cat", "dog"] {
        report(&db, &image_of(&db, name).await).await;
    }
    images::check_reported(&db, &nowhere).await.unwrap_err();
    let put_off = "select count(*) from images where checked_at is not null and damaged_at is null";
    let put_off = sqlx::query_scalar::<_, i64>(put_off);
    assert_eq!(put_off.fetch_one(&*db).await.unwrap(), 2);
    for name in ["cat", "dog"] {
        assert_eq!(suspicion(&db, name).await, Some(Suspicion::Reported));
    }
}

#[tokio::test]
async fn jobs_of_a_lost_image_fail_uncharged_after_their_time() {
    let db = given::database().await;
    let [lost, fine] = given::queued(&db, ["lost", "fine"]).await;
    report(&db, &image_of(&db, "lost").await).await;
    assert_eq!(
        images::fail_jobs_of_lost_images(&db, -1.0).await.unwrap(),
        0
    );
    sqlx::query(
        "update images set damaged_at = now() - interval '1 h' where reported_at is not null",
    )
    .execute(&*db)
    .await
    .unwrap();
    let fail = async |seconds| {
        images::fail_jobs_of_lost_images(&db, seconds)
            .await
            .unwrap()
    };
    assert_eq!(fail(7200.0).await, 0);
    assert_eq!(fail(1800.0).await, 1);
    assert_eq!(fail(1800.0).await, 0);
    let job = queue::find(&db, lost, given::OWNER).await.unwrap().unwrap();
    assert_eq!(job.state, jobs::JobState::Failed);
    assert_eq!(job.attempts_charged, 0);
    assert_eq!(job.problem.unwrap()["code"], Value::from("data_purged"));
    let job = queue::find(&db, fine, given::OWNER).await.unwrap().unwrap();
    assert_eq!(job.state, jobs::JobState::Queued);
}

/// I8: a delete removed the object of a submit that was under way. The submit must not name the object.
#[tokio::test]
async fn a_submit_whose_object_a_delete_removed_is_refused() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    let model = given::model_version(&db, given::MODEL).await;
    let (first, mut late) = (given::job(&model, "cat"), given::job(&model, "cat"));
    queue::enqueue(&db, std::slice::from_ref(&first))
        .await
        .unwrap();
    queue::cancel(&db, first.id, None).await.unwrap();
    for image in [&first.image, &late.image] {
        put(&store, image, b"cat").await;
    }
    let purged = images::purge(&db, &store, given::OWNER, first.image.sha256, None).await;
    assert_eq!(purged.unwrap(), PurgeOutcome::Done);
    let left = store.list("images/", "", 10).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    let refused = queue::enqueue(&db, std::slice::from_ref(&late)).await;
    assert!(
        matches!(refused, Err(QueueError::ImagePurged)),
        "{refused:?}"
    );
    let registered = images::register(&db, given::OWNER, &late.image).await;
    assert!(!registered.unwrap());
    late.image.upload = Uuid::now_v7();
    queue::enqueue(&db, std::slice::from_ref(&late))
        .await
        .unwrap();
    assert_eq!(image_of(&db, "cat").await.upload, late.image.upload);
}

/// The API checked the object of a signed upload; then the owner deleted the image; then the API writes the row.
#[tokio::test]
async fn a_signed_upload_that_was_deleted_while_it_was_checked_is_no_image() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    let model = given::model_version(&db, given::MODEL).await;
    let image = given::job(&model, "cat").image;
    let signed = SignedUpload {
        upload: image.upload,
        bytes: image.bytes,
    };
    let recorded =
        images::record_signed_upload(&db, given::OWNER, image.sha256, signed, TERMS).await;
    assert!(recorded.unwrap());
    let found = images::signed_uploads(&db, given::OWNER, image.sha256).await;
    assert_eq!(found.unwrap(), [signed]);
    let purge = async || {
        images::purge(&db, &store, given::OWNER, image.sha256, None)
            .await
            .unwrap()
    };
    assert_eq!(purge().await, PurgeOutcome::Done);
    let named = images::name_signed_upload(&db, given::OWNER, &image).await;
    assert!(!named.unwrap());
    assert_eq!(given::stored(&db, given::OWNER, image.sha256).await, None);
    assert_eq!(purge().await, PurgeOutcome::NotFound);
    let bytes = images::stored_bytes(&db, given::OWNER).await.unwrap();
    assert_eq!(bytes, image.bytes, "its URL may still write");
}

#[tokio::test]
async fn of_two_signed_uploads_one_becomes_the_image_and_the_other_still_counts() {
    let db = given::database().await;
    let model = given::model_version(&db, given::MODEL).await;
    let (first, second) = (
        given::job(&model, "cat").image,
        given::job(&model, "cat").image,
    );
    for image in [&first, &second] {
        let signed = SignedUpload {
            upload: image.upload,
            bytes: image.bytes,
        };
        let recorded =
            images::record_signed_upload(&db, given::OWNER, image.sha256, signed, TERMS).await;
        assert!(recorded.unwrap());
    }
    for (image, is_image) in [(&first, true), (&second, false), (&first, false)] {
        let named = images::name_signed_upload(&db, given::OWNER, image).await;
        assert_eq!(named.unwrap(), is_image);
    }
    assert_eq!(image_of(&db, "cat").await.upload, first.upload);
    let bytes = images::stored_bytes(&db, given::OWNER).await.unwrap();
    assert_eq!(bytes, first.bytes + second.bytes);
}
