//! What operators and owners do by hand: retry, purge, priority, pause, drain, explain; and their races.

use std::time::Duration;

use insta::assert_snapshot;
use jobs::{
    JobId, JobState, Problem, ProblemCode,
    queue::{self, Drained, Prioritized, Purged, QueueError, Resubmitted},
};
use sqlx::{PgPool, postgres::PgListener};
use tests::{clock, dump, given};

const OWNER: Option<&str> = Some(given::OWNER);

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

/// A job that failed for good.
async fn failed(db: &PgPool, name: &str) -> JobId {
    let [job] = given::queued(db, [name]).await;
    let held = given::claimed_by(db, "w").await;
    assert_eq!(
        queue::fail(db, &[(held.lease(), fault())]).await.unwrap(),
        [job]
    );
    job
}

async fn number(db: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn a_retry_by_hand_keeps_id_and_history_and_renews_the_budget_of_attempts() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    for name in ["one", "two", "three"] {
        let held = given::claimed_by(&db, name).await;
        queue::retry(&db, &[(held.lease(), fault())]).await.unwrap();
        if name != "three" {
            clock::came_due(&db, cat).await;
            queue::promote(&db).await.unwrap();
        }
    }
    let before = queue::find(&db, cat, given::OWNER).await.unwrap().unwrap();
    assert_eq!(before.state, JobState::Failed);
    assert_eq!(
        queue::resubmit(&db, cat, OWNER).await.unwrap(),
        Resubmitted::Queued
    );
    let after = queue::find(&db, cat, given::OWNER).await.unwrap().unwrap();
    assert_eq!(after.created_at, before.created_at);
    assert_eq!(after.version, before.version + 1);
    assert_snapshot!(dump(&db).await, @r"
    cat queued lease=6 charged=0/3 interruptions=0/3
      1 one retried charged model_error
      2 two retried charged model_error
      3 three failed charged model_error
    ");
    let held = given::claimed_by(&db, "four").await;
    queue::retry(&db, &[(held.lease(), fault())]).await.unwrap();
    clock::came_due(&db, cat).await;
    queue::promote(&db).await.unwrap();
    let held = given::claimed_by(&db, "five").await;
    assert_eq!(
        queue::complete(&db, &[held.completion("done")])
            .await
            .unwrap(),
        [cat]
    );
    let attempts = queue::attempts(&db, cat).await.unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.outcome.as_deref().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            (1, "retried"),
            (2, "retried"),
            (3, "failed"),
            (4, "retried"),
            (5, "succeeded")
        ]
    );
}

#[tokio::test]
async fn a_retry_by_hand_forgives_one_lost_worker_and_no_more() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    for name in ["one", "two", "three"] {
        let held = given::claimed_by(&db, name).await;
        clock::lease_ran_out(&db, held.worker).await;
        assert_eq!(queue::rescue(&db).await.unwrap(), [cat]);
    }
    assert_eq!(
        queue::resubmit(&db, cat, OWNER).await.unwrap(),
        Resubmitted::Queued
    );
    let held = given::claimed_by(&db, "four").await;
    assert_eq!(
        held.claim.interruptions, 2,
        "it is still a suspect, to be tried alone"
    );
    clock::lease_ran_out(&db, held.worker).await;
    queue::rescue(&db).await.unwrap();
    assert_snapshot!(dump(&db).await, @r"
    cat failed lease=9 charged=0/3 interruptions=3/3 worker=four problem=too_many_interruptions
      1 one lost free worker_lost
      2 two lost free worker_lost
      3 three lost free worker_lost
      4 four lost free worker_lost
    ");
}

#[tokio::test]
async fn a_lease_from_before_a_retry_by_hand_changes_nothing() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let stale = given::claimed_by(&db, "stale").await;
    queue::fail(&db, &[(stale.lease(), fault())]).await.unwrap();
    queue::resubmit(&db, cat, OWNER).await.unwrap();
    let fresh = given::claimed_by(&db, "fresh").await;
    assert!(
        queue::complete(&db, &[stale.completion("stale")])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        queue::complete(&db, &[fresh.completion("fresh")])
            .await
            .unwrap(),
        [cat]
    );
}

#[tokio::test]
async fn a_retried_job_goes_behind_what_its_owner_has_queued() {
    let db = given::database().await;
    let cat = failed(&db, "cat").await;
    let [dog, owl] = given::queued(&db, ["dog", "owl"]).await;
    queue::resubmit(&db, cat, OWNER).await.unwrap();
    let [fox] = given::queued(&db, ["fox"]).await;
    let worker = given::worker(&db, "w").await;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(
            queue::claim(&db, worker, &[], 1)
                .await
                .unwrap()
                .iter()
                .map(|claim| claim.lease.job_id),
        );
    }
    assert_eq!(order[..2], [dog, owl]);
    assert!(
        order[2..].contains(&cat) && order[2..].contains(&fox),
        "{order:?}"
    );
}

#[tokio::test]
async fn canceled_and_expired_jobs_can_be_retried_and_a_past_deadline_is_dropped() {
    let db = given::database().await;
    let [cat, dog] = given::queued(&db, ["cat", "dog"]).await;
    queue::cancel(&db, cat, OWNER).await.unwrap();
    clock::deadline_passed(&db, dog).await;
    assert_eq!(queue::expire(&db).await.unwrap(), [dog]);
    for job in [cat, dog] {
        assert_eq!(
            queue::resubmit(&db, job, OWNER).await.unwrap(),
            Resubmitted::Queued
        );
        let job = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        assert_eq!((job.state, job.deadline), (JobState::Queued, None));
    }
    assert!(queue::expire(&db).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_a_job_that_ended_in_vain_and_has_its_input_can_be_retried() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    assert_eq!(
        queue::resubmit(&db, cat, OWNER).await.unwrap(),
        Resubmitted::NotTerminal
    );
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(
        queue::resubmit(&db, cat, OWNER).await.unwrap(),
        Resubmitted::NotTerminal
    );
    queue::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    assert_eq!(
        queue::resubmit(&db, cat, OWNER).await.unwrap(),
        Resubmitted::Succeeded
    );
    let dog = failed(&db, "dog").await;
    assert_eq!(
        queue::resubmit(&db, dog, Some("bob")).await.unwrap(),
        Resubmitted::NotFound
    );
    assert_eq!(
        queue::resubmit(&db, JobId::now(), None).await.unwrap(),
        Resubmitted::NotFound
    );
    assert_eq!(queue::purge(&db, dog, OWNER).await.unwrap(), Purged::Done);
    assert_eq!(
        queue::resubmit(&db, dog, OWNER).await.unwrap(),
        Resubmitted::InputPurged
    );
    let owl = failed(&db, "owl").await;
    sqlx::query("update images set purged_at = now()")
        .execute(&*db)
        .await
        .unwrap();
    assert_eq!(
        queue::resubmit(&db, owl, OWNER).await.unwrap(),
        Resubmitted::InputPurged
    );
}

#[tokio::test]
async fn a_purge_leaves_a_tombstone_without_a_word_about_the_image() {
    let db = given::database().await;
    let dog = failed(&db, "dog").await;
    let [cat] = given::queued(&db, ["cat"]).await;
    assert_eq!(
        queue::purge(&db, cat, OWNER).await.unwrap(),
        Purged::NotTerminal
    );
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(
        queue::purge(&db, cat, OWNER).await.unwrap(),
        Purged::NotTerminal
    );
    queue::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    for job in [cat, dog] {
        assert_eq!(
            queue::purge(&db, job, Some("bob")).await.unwrap(),
            Purged::NotFound
        );
        let before = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        assert_eq!(queue::purge(&db, job, OWNER).await.unwrap(), Purged::Done);
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
            Purged::Done,
            "repeating is fine"
        );
        let again = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        assert_eq!(
            (again.version, again.purged_at),
            (after.version, after.purged_at)
        );
    }
    let words = "select count(*) from ops.jobs j full join ops.attempts a using (job_id)
                 where concat(j.problem, a.problem) like '%made up%'";
    assert_eq!(number(&db, words).await, 0);
    assert_eq!(
        number(&db, "select sum(jobs)::bigint from images").await,
        0,
        "no job needs the images"
    );
}

#[tokio::test]
async fn a_new_priority_moves_a_waiting_job_to_the_end_of_that_level() {
    let db = given::database().await;
    let [cat, dog, owl] = given::queued(&db, ["cat", "dog", "owl"]).await;
    for job in [owl, dog] {
        assert_eq!(
            queue::set_priority(&db, job, 5).await.unwrap(),
            Prioritized::Set
        );
    }
    assert_eq!(
        queue::set_priority(&db, owl, 5).await.unwrap(),
        Prioritized::Set,
        "it has it, and keeps its place"
    );
    let worker = given::worker(&db, "w").await;
    let claims = queue::claim(&db, worker, &[], 2).await.unwrap();
    let order: Vec<_> = claims.iter().map(|claim| claim.lease.job_id).collect();
    assert_eq!(order, [owl, dog]);
    assert_eq!(
        queue::set_priority(&db, owl, 1).await.unwrap(),
        Prioritized::Running
    );
    queue::cancel(&db, cat, None).await.unwrap();
    assert_eq!(
        queue::set_priority(&db, cat, 1).await.unwrap(),
        Prioritized::Terminal(JobState::Canceled)
    );
    assert_eq!(
        queue::set_priority(&db, JobId::now(), 1).await.unwrap(),
        Prioritized::NotFound
    );
    assert!(matches!(
        queue::set_priority(&db, cat, 101).await,
        Err(QueueError::Db(_))
    ));
}

#[tokio::test]
async fn a_paused_model_is_not_claimed_until_it_is_resumed() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    assert!(
        queue::pause(&db, given::MODEL, Some("bad labels"), "api key 1f")
            .await
            .unwrap()
    );
    let worker = given::worker(&db, "w").await;
    assert!(queue::claim(&db, worker, &[], 1).await.unwrap().is_empty());
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
    assert_eq!(queue::claim(&db, worker, &[], 1).await.unwrap().len(), 1);
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
    let acts: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', actor, verb, subject, outcome) from ops.audit order by at",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert_eq!(
        acts,
        [
            "api key 1f pause lite paused",
            "api key 1f resume lite resumed",
            "api key 1f pause no-such-model not found",
            "api key 1f resume no-such-model not found"
        ]
    );
}

#[tokio::test]
async fn a_drained_worker_learns_of_it_with_its_next_heartbeat() {
    let db = given::database().await;
    let worker = given::worker(&db, "w").await;
    assert!(!queue::heartbeat(&db, worker, 60.0).await.unwrap().draining);
    assert_eq!(
        queue::drain(&db, worker, "me").await.unwrap(),
        Drained::Draining
    );
    assert!(queue::heartbeat(&db, worker, 60.0).await.unwrap().draining);
    queue::deregister(&db, worker).await.unwrap();
    assert_eq!(
        queue::drain(&db, worker, "me").await.unwrap(),
        Drained::Gone
    );
    assert_eq!(
        queue::drain(&db, (worker.0 + 1).into(), "me")
            .await
            .unwrap(),
        Drained::NotFound
    );
}

/// Everything that was sent on our channels since it began to listen.
async fn heard(listener: &mut PgListener, count: usize) -> Vec<(String, String)> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let news = tokio::time::timeout(Duration::from_secs(10), listener.recv());
        let news = news.await.expect("nothing was heard").unwrap();
        heard.push((news.channel().to_owned(), news.payload().to_owned()));
    }
    heard
}

#[tokio::test]
async fn whoever_waits_hears_of_what_operators_do() {
    let db = given::database().await;
    let mut listener = PgListener::connect_with(&db).await.unwrap();
    listener
        .listen_all(["darkroom_queued", "darkroom_changed", "darkroom_worker"])
        .await
        .unwrap();
    let [cat] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w").await;
    let (id, worker) = (cat.uuid().simple().to_string(), held.worker.to_string());
    let model = number(&db, "select model_id from models").await.to_string();
    let changed = || ("darkroom_changed".to_owned(), id.clone());
    queue::cancel(&db, cat, OWNER).await.unwrap();
    assert_eq!(
        heard(&mut listener, 2).await,
        [changed(), ("darkroom_worker".to_owned(), worker.clone())]
    );
    queue::release(&db, &[held.lease()]).await.unwrap();
    queue::resubmit(&db, cat, OWNER).await.unwrap();
    assert_eq!(
        heard(&mut listener, 2).await,
        [("darkroom_queued".to_owned(), model.clone()), changed()]
    );
    queue::set_priority(&db, cat, 3).await.unwrap();
    assert_eq!(heard(&mut listener, 1).await, [changed()]);
    queue::resume(&db, given::MODEL, "me").await.unwrap();
    assert_eq!(
        heard(&mut listener, 1).await,
        [("darkroom_queued".to_owned(), model)]
    );
    queue::drain(&db, held.worker, "me").await.unwrap();
    assert_eq!(
        heard(&mut listener, 1).await,
        [("darkroom_worker".to_owned(), worker)]
    );
    queue::cancel(&db, cat, OWNER).await.unwrap();
    queue::purge(&db, cat, OWNER).await.unwrap();
    assert_eq!(heard(&mut listener, 2).await, [changed(), changed()]);
}
