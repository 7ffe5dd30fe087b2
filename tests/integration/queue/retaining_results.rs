//! Results in the object store: each object stays until the purge of its job; objects that no job names are swept.

use bytes::Bytes;
use jobs::{
    Sha256Digest,
    object_store::{Body, ObjectStore},
    orphans, queue,
    results::{self, Kind},
};
use serde_json::json;
use sqlx::PgPool;
use tests::given::{self, Held};

/// Stores a result like a worker right before `complete`, and returns the object key.
async fn store_result(store: &ObjectStore, held: &Held) -> String {
    let bytes = Bytes::from_static(b"a mask");
    let key = results::object_key(given::OWNER, held.lease(), Kind::Mask);
    let put = store.put(
        &key,
        Body::Memory(&bytes),
        Sha256Digest::of(&bytes),
        "image/png",
    );
    put.await.unwrap();
    key
}

async fn complete_with_result(db: &PgPool, held: &Held, key: &str) {
    let result = results::naming(json!({"width": 4}), key.to_owned());
    let done = given::succeeded(held.lease(), given::prediction(result));
    assert_eq!(
        tests::settling::complete(db, &[done]).await.unwrap(),
        [held.job_id()]
    );
}

#[tokio::test]
async fn the_object_of_a_result_is_deleted_after_the_purge_of_its_job() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    given::queued(&db, ["cat.jpg"]).await;
    let held = given::claimed_by(&db, "w").await;
    let key = store_result(&store, &held).await;
    complete_with_result(&db, &held, &key).await;
    assert_eq!(results::collect(&db, &store).await.unwrap(), 0);
    assert!(
        store.exists(&key).await.unwrap(),
        "the job still has its data"
    );
    queue::purge(&db, held.job_id(), None).await.unwrap();
    assert_eq!(results::collect(&db, &store).await.unwrap(), 1);
    assert!(!store.exists(&key).await.unwrap());
    assert_eq!(
        results::collect(&db, &store).await.unwrap(),
        0,
        "the object is deleted only once"
    );
    let job = queue::find(&db, held.job_id(), given::OWNER).await.unwrap();
    assert_eq!(job.unwrap().result, None);
}

/// A worker stored its result and then lost its lease. The object of the next worker has another key and stays.
#[tokio::test]
async fn only_the_object_of_a_stale_attempt_is_swept() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    given::queued(&db, ["cat.jpg"]).await;
    let stale = given::claimed_by(&db, "spot-a").await;
    let orphan = store_result(&store, &stale).await;
    tests::settling::release(&db, &[stale.lease()])
        .await
        .unwrap();
    let fresh = given::claimed_by(&db, "spot-b").await;
    let named = store_result(&store, &fresh).await;
    complete_with_result(&db, &fresh, &named).await;
    for (grace, swept) in [(3600.0, 0), (-60.0, 1)] {
        let pass = orphans::sweep(&db, &store, grace, -1.0).await.unwrap();
        assert_eq!(pass, Some(swept), "grace {grace}");
    }
    assert!(store.exists(&named).await.unwrap());
    assert!(!store.exists(&orphan).await.unwrap());
}

/// The job still runs, so only the grace period protects the object in the bucket.
#[tokio::test]
async fn the_object_of_an_uncommitted_attempt_is_not_swept() {
    let (db, (_, store)) = tokio::join!(given::database(), given::bucket());
    given::queued(&db, ["cat.jpg"]).await;
    let held = given::claimed_by(&db, "w").await;
    let key = store_result(&store, &held).await;
    let swept = orphans::sweep(&db, &store, 3600.0, -1.0).await.unwrap();
    assert_eq!(swept, Some(0));
    assert!(store.exists(&key).await.unwrap());
}
