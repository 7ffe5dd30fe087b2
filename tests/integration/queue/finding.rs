//! One read for all who look at once.

use futures_util::future::join_all;
use jobs::{
    JobId,
    queue::{self, Finder, QueueError},
};
use tests::given;

#[tokio::test]
async fn all_who_look_at_once_get_their_own_jobs_and_nobody_elses() {
    let db = given::database().await;
    let cats = given::queued(&db, ["a", "b", "c"]).await;
    let hers = given::queued_with(&db, "d", |job| job.owner = "bob".to_owned()).await;
    let held = given::claimed_by(&db, "w").await;
    queue::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    let finder = Finder::start(db.another_pool());
    let find = async |job: JobId, owner: &str| {
        let found = finder.find(job, owner).await.unwrap();
        found.map(|job| (job.id, job.owner))
    };
    let mine = join_all([0, 1, 2, 1, 0].map(|n| find(cats[n], given::OWNER))).await;
    let expected = [0, 1, 2, 1, 0].map(|n| Some((cats[n], given::OWNER.to_owned())));
    assert_eq!(mine, expected);
    let others = [
        find(hers, given::OWNER),
        find(hers, "bob"),
        find(cats[0], "bob"),
        find(JobId::now(), given::OWNER),
    ];
    let found = join_all(others).await;
    assert_eq!(found, [None, Some((hers, "bob".to_owned())), None, None]);
}

#[tokio::test]
async fn who_looks_while_postgres_refuses_is_told_and_the_next_one_finds() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let finder = Finder::start(db.another_pool());
    sqlx::raw_sql("alter view ops.jobs rename to away")
        .execute(&*db)
        .await
        .unwrap();
    let looks = join_all((0..3).map(|_| finder.find(cat, given::OWNER))).await;
    for look in looks {
        assert!(matches!(look, Err(QueueError::Db(_))), "{look:?}");
    }
    sqlx::raw_sql("alter view ops.away rename to jobs")
        .execute(&*db)
        .await
        .unwrap();
    assert!(finder.find(cat, given::OWNER).await.unwrap().is_some());
}
