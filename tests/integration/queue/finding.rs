//! Concurrent look-ups share one read.

use futures_util::future::join_all;
use jobs::{
    JobId, Sha256Digest,
    db::StatementPool,
    images,
    models::Resolver,
    queue::{JobLoader, QueueError},
};
use tests::given;

#[tokio::test]
async fn concurrent_look_ups_return_only_jobs_of_their_owner() {
    let db = given::database().await;
    let cats = given::queued(&db, ["a", "b", "c"]).await;
    let bobs = given::queued_with(&db, "d", |job| job.owner = "bob".to_owned()).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    let loader = JobLoader::start(StatementPool::by_keys(db.another_pool()));
    let find = async |job: JobId, owner: &str| {
        let found = loader.find(job, owner).await.unwrap();
        found.map(|job| (job.id, job.owner))
    };
    let mine = join_all([0, 1, 2, 1, 0].map(|n| find(cats[n], given::OWNER))).await;
    let expected = [0, 1, 2, 1, 0].map(|n| Some((cats[n], given::OWNER.to_owned())));
    assert_eq!(mine, expected);
    let look_ups = [
        find(bobs, given::OWNER),
        find(bobs, "bob"),
        find(cats[0], "bob"),
        find(JobId::now(), given::OWNER),
    ];
    let found = join_all(look_ups).await;
    assert_eq!(found, [None, Some((bobs, "bob".to_owned())), None, None]);
}

#[tokio::test]
async fn a_look_up_reports_a_database_error_and_the_next_look_up_works() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let loader = JobLoader::start(StatementPool::by_keys(db.another_pool()));
    sqlx::raw_sql("alter view ops.jobs rename to away")
        .execute(&*db)
        .await
        .unwrap();
    let results = join_all((0..3).map(|_| loader.find(cat, given::OWNER))).await;
    for result in results {
        assert!(matches!(result, Err(QueueError::Db(_))), "{result:?}");
    }
    sqlx::raw_sql("alter view ops.away rename to jobs")
        .execute(&*db)
        .await
        .unwrap();
    assert!(loader.find(cat, given::OWNER).await.unwrap().is_some());
}

/// The driver panics when it decodes an infinite time.
#[tokio::test]
async fn an_unreadable_row_fails_only_its_own_look_up() {
    let db = given::database().await;
    let [readable, unreadable] = given::queued(&db, ["readable", "unreadable"]).await;
    sqlx::query("update live_jobs set deadline_at = 'infinity' where job_id = $1")
        .bind(unreadable.uuid())
        .execute(&*db)
        .await
        .unwrap();
    let loader = JobLoader::start(StatementPool::by_keys(db.another_pool()));
    let result = loader.find(unreadable, given::OWNER).await;
    assert!(matches!(result, Err(QueueError::Db(_))), "{result:?}");
    assert!(loader.find(readable, given::OWNER).await.unwrap().is_some());
}

#[tokio::test]
async fn concurrent_look_ups_resolve_every_kind_of_model_reference() {
    let db = given::database().await;
    let lite = given::model_version(&db, "lite").await;
    let heavy = given::model_version(&db, "heavy").await;
    let resolver = Resolver::start(StatementPool::with_one_plan(db.another_pool()));
    let digest = format!("heavy@{}", heavy.model.digest);
    let references = [
        None,
        Some("lite"),
        Some("heavy@default"),
        Some("heavy:1"),
        Some(digest.as_str()),
        Some("heavy"),
        Some("heavy:2"),
        Some("lite@stable"),
        Some("no-such-model"),
        Some("not:a:reference"),
        Some("lite"),
    ];
    let found = join_all(references.map(|one| resolver.resolve(one))).await;
    let found = found.into_iter().map(|one| one.unwrap());
    let found: Vec<_> = found
        .map(|one| one.map(|one| (one.model_version_id, one.model_ref)))
        .collect();
    let is = |version: &jobs::models::Resolved, reference: &str| {
        Some((version.model_version_id, reference.to_owned()))
    };
    let expected = [
        is(&lite, "lite@default"), // the first model is the default
        is(&lite, "lite@default"),
        is(&heavy, "heavy@default"),
        is(&heavy, "heavy:1"),
        is(&heavy, &digest),
        is(&heavy, "heavy@default"),
        None,
        None,
        None,
        None,
        is(&lite, "lite@default"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn concurrent_image_look_ups_renew_the_grace_of_unneeded_images() {
    let db = given::database().await;
    given::queued(&db, ["a", "b"]).await;
    given::queued_with(&db, "a", |job| job.owner = "bob".to_owned()).await;
    let digest = |name: &str| Sha256Digest::of(name.as_bytes());
    let an_hour_ago =
        "update images set unused_since = now() - interval '1 hour' where owner = 'bob'";
    sqlx::query(an_hour_ago).execute(&*db).await.unwrap();
    let loader = images::ImageLoader::start(StatementPool::by_keys(db.another_pool()));
    let look_ups = [
        (given::OWNER, "b"),
        ("bob", "a"),
        ("bob", "b"),
        (given::OWNER, "c"),
        (given::OWNER, "b"),
    ];
    let found = join_all(look_ups.map(|(owner, name)| loader.find(owner, digest(name)))).await;
    let found = found.into_iter().map(|one| one.unwrap());
    let found: Vec<_> = found
        .map(|one| one.map(|stored| (stored.image.sha256, stored.recent_jobs.len())))
        .collect();
    let expected = [Some("b"), Some("a"), None, None, Some("b")];
    assert_eq!(found, expected.map(|name| Some((digest(name?), 1))));
    let unused_seconds =
        "select extract(epoch from now() - unused_since)::float8 from images where owner = 'bob'";
    let seconds: f64 = sqlx::query_scalar(unused_seconds)
        .fetch_one(&*db)
        .await
        .unwrap();
    assert!(seconds < 600.0, "{seconds}");
}
