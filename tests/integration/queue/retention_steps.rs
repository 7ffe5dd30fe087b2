//! The steps of retention do not depend on each other.

use jobs::{
    queue,
    retention::{self, RetentionConfig},
};
use tests::given;

/// Makes every delete of an event fail.
const BROKEN_STEP: &str = "
    create function refuse() returns trigger language plpgsql as $$ begin raise exception 'of a test'; end $$;
    create trigger refuse before delete on events_default for each row execute function refuse();
    insert into events (owner, type, job_ids, at) values ('alice', 'job.succeeded', array[new_job_id()], now() - interval '60 days')";

#[tokio::test]
async fn a_step_that_fails_does_not_stop_the_steps_behind_it() {
    let db = given::database().await;
    let (_, store) = given::bucket().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    queue::cancel(&db, cat, None).await.unwrap();
    sqlx::query("update finished_jobs set retain_until = now() - interval '1 day'")
        .execute(&*db)
        .await
        .unwrap();
    sqlx::raw_sql(BROKEN_STEP).execute(&*db).await.unwrap();
    let config = RetentionConfig {
        tombstone_days: 30.0,
        event_days: 30.0,
        image_grace_seconds: 0.0,
        lost_image_hours: 24.0,
        retention_pause_seconds: 0.0,
    };
    let round = retention::round(&db, &store, &config).await;
    let failed: Vec<_> = round.failed.iter().map(|(step, _)| *step).collect();
    assert_eq!(failed, ["prune events"]);
    assert_eq!(round.removed.purged_jobs, 1);
    assert_eq!(round.removed.collected_images, 1, "a step behind it");
}
