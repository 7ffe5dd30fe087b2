//! Actions of operators and owners: retry, purge, set priority, pause, drain.

mod retrying;

use std::time::Duration;

use insta::assert_snapshot;
use jobs::{
    JobId, JobState, Problem, ProblemCode,
    queue::{self, DrainOutcome, PurgeOutcome, QueueError, RetryOutcome, SetPriorityOutcome},
};
use sqlx::{PgPool, postgres::PgListener};
use tests::{clock, dump, given};

const OWNER: Option<&str> = Some(given::OWNER);

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

async fn failed_job(db: &PgPool, name: &str) -> JobId {
    let [job] = given::queued(db, [name]).await;
    let held = given::claimed_by(db, "w").await;
    assert_eq!(
        tests::settling::fail(db, &[(held.lease(), fault())])
            .await
            .unwrap(),
        [job]
    );
    job
}

async fn query_number(db: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn a_purge_leaves_a_tombstone_without_data() {
    let db = given::database().await;
    let dog = failed_job(&db, "dog").await;
    let [cat] = given::queued(&db, ["cat"]).await;
    assert_eq!(
        queue::purge(&db, cat, OWNER).await.unwrap(),
        PurgeOutcome::NotTerminal
    );
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(
        queue::purge(&db, cat, OWNER).await.unwrap(),
        PurgeOutcome::NotTerminal
    );
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    for job in [cat, dog] {
        assert_eq!(
            queue::purge(&db, job, Some("bob")).await.unwrap(),
            PurgeOutcome::NotFound
        );
        let before = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        assert_eq!(
            queue::purge(&db, job, OWNER).await.unwrap(),
            PurgeOutcome::Done
        );
        let after = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        assert_eq!(
            (after.state, after.version),
            (before.state, before.version + 1)
        );
        assert_eq!(
            (after.result, after.metadata, after.params),
            (None, serde_json::json!({}), serde_json::json!({}))
        );
        assert!(after.purged_at.is_some());
        assert_eq!(
            queue::purge(&db, job, OWNER).await.unwrap(),
            PurgeOutcome::Done,
            "a second purge must change nothing"
        );
        let again = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        assert_eq!(
            (again.version, again.purged_at),
            (after.version, after.purged_at)
        );
    }
    let mentions = "select count(*) from ops.jobs j full join ops.attempts a using (job_id)
                 where concat(j.problem, a.problem) like '%made up%'";
    assert_eq!(query_number(&db, mentions).await, 0);
    assert_eq!(
        query_number(&db, "select sum(jobs)::bigint from images").await,
        0,
        "no job needs the images"
    );
}

#[tokio::test]
async fn a_new_priority_moves_a_queued_job_behind_all_jobs_of_that_priority() {
    let db = given::database().await;
    let [cat, dog, owl] = given::queued(&db, ["cat", "dog", "owl"]).await;
    for job in [owl, dog] {
        assert_eq!(
            queue::set_priority(&db, job, 5).await.unwrap(),
            SetPriorityOutcome::Set
        );
    }
    assert_eq!(
        queue::set_priority(&db, owl, 5).await.unwrap(),
        SetPriorityOutcome::Set,
        "a job that already has this priority keeps its place"
    );
    let worker = given::worker(&db, "w").await;
    let claims = tests::claiming::claim(&db, worker, &[], 2).await.unwrap();
    let order: Vec<_> = claims.iter().map(|claim| claim.lease.job_id).collect();
    assert_eq!(order, [owl, dog]);
    assert_eq!(
        queue::set_priority(&db, owl, 1).await.unwrap(),
        SetPriorityOutcome::Running
    );
    queue::cancel(&db, cat, None).await.unwrap();
    assert_eq!(
        queue::set_priority(&db, cat, 1).await.unwrap(),
        SetPriorityOutcome::Terminal(JobState::Canceled)
    );
    assert_eq!(
        queue::set_priority(&db, JobId::now(), 1).await.unwrap(),
        SetPriorityOutcome::NotFound
    );
    assert!(matches!(
        queue::set_priority(&db, cat, 101).await,
        Err(QueueError::Db(_))
    ));
}

#[tokio::test]
async fn a_paused_model_is_claimed_only_after_resume() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    assert!(
        queue::pause(&db, given::MODEL, Some("bad labels"), "api key 1f")
            .await
            .unwrap()
    );
    let worker = given::worker(&db, "w").await;
    assert!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .is_empty()
    );
    let explained = queue::explain(&db, cat, OWNER).await.unwrap().unwrap();
    assert!(
        explained.blocked_by[0].contains("bad labels"),
        "{explained:?}"
    );
    assert!(
        queue::resume(&db, given::MODEL, "api key 1f")
            .await
            .unwrap()
    );
    assert_eq!(
        tests::claiming::claim(&db, worker, &[], 1)
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(
        !queue::pause(&db, "no-such-model", None, "api key 1f")
            .await
            .unwrap()
    );
    assert!(
        !queue::resume(&db, "no-such-model", "api key 1f")
            .await
            .unwrap()
    );
    let audited: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', actor, verb, subject, outcome) from ops.audit order by at",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert_eq!(
        audited,
        [
            "api key 1f pause lite paused",
            "api key 1f resume lite resumed",
            "api key 1f pause no-such-model not found",
            "api key 1f resume no-such-model not found"
        ]
    );
}

#[tokio::test]
async fn the_next_heartbeat_tells_a_worker_to_drain() {
    let db = given::database().await;
    let worker = given::worker(&db, "w").await;
    assert!(!queue::heartbeat(&db, worker, 60.0).await.unwrap().draining);
    assert_eq!(
        queue::drain(&db, worker, "me").await.unwrap(),
        DrainOutcome::Draining
    );
    assert!(queue::heartbeat(&db, worker, 60.0).await.unwrap().draining);
    queue::deregister(&db, worker).await.unwrap();
    assert_eq!(
        queue::drain(&db, worker, "me").await.unwrap(),
        DrainOutcome::Gone
    );
    assert_eq!(
        queue::drain(&db, (worker.0 + 1).into(), "me")
            .await
            .unwrap(),
        DrainOutcome::NotFound
    );
}

/// The next `count` notifications: channel and payload.
async fn receive(listener: &mut PgListener, count: usize) -> Vec<(String, String)> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(10), listener.recv());
        let next = next.await.expect("a notification must arrive").unwrap();
        heard.push((next.channel().to_owned(), next.payload().to_owned()));
    }
    heard
}

#[tokio::test]
async fn actions_of_operators_send_wake_ups() {
    let db = given::database().await;
    let mut listener = PgListener::connect_with(&db).await.unwrap();
    listener
        .listen_all(["darkroom_queued", "darkroom_changed", "darkroom_worker"])
        .await
        .unwrap();
    let [cat] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    let (id, worker) = (cat.uuid().simple().to_string(), held.worker.to_string());
    let model = query_number(&db, "select model_id from models")
        .await
        .to_string();
    let changed = || ("darkroom_changed".to_owned(), id.clone());
    queue::cancel(&db, cat, OWNER).await.unwrap();
    assert_eq!(
        receive(&mut listener, 2).await,
        [changed(), ("darkroom_worker".to_owned(), worker.clone())]
    );
    tests::settling::release(&db, &[held.lease()])
        .await
        .unwrap();
    queue::retry(&db, cat, OWNER).await.unwrap();
    assert_eq!(
        receive(&mut listener, 2).await,
        [("darkroom_queued".to_owned(), model.clone()), changed()]
    );
    queue::set_priority(&db, cat, 3).await.unwrap();
    assert_eq!(receive(&mut listener, 1).await, [changed()]);
    queue::resume(&db, given::MODEL, "me").await.unwrap();
    assert_eq!(
        receive(&mut listener, 1).await,
        [("darkroom_queued".to_owned(), model)]
    );
    queue::drain(&db, held.worker, "me").await.unwrap();
    assert_eq!(
        receive(&mut listener, 1).await,
        [("darkroom_worker".to_owned(), worker)]
    );
    queue::cancel(&db, cat, OWNER).await.unwrap();
    queue::purge(&db, cat, OWNER).await.unwrap();
    assert_eq!(receive(&mut listener, 2).await, [changed(), changed()]);
}
