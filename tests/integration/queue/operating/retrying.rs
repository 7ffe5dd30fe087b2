//! Retries of a job by hand.

use super::*;

#[tokio::test]
async fn a_retry_by_hand_keeps_the_history_and_resets_the_charged_attempts() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    for name in ["one", "two", "three"] {
        let held = given::claimed_by(&db, name).await;
        tests::settling::retry(&db, &[(held.lease(), fault())])
            .await
            .unwrap();
        if name != "three" {
            clock::came_due(&db, cat).await;
            queue::promote(&*db).await.unwrap();
        }
    }
    let before = queue::find(&db, cat, given::OWNER).await.unwrap().unwrap();
    assert_eq!(before.state, JobState::Failed);
    assert_eq!(
        queue::retry(&db, cat, OWNER).await.unwrap(),
        RetryOutcome::Queued
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
    tests::settling::retry(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    clock::came_due(&db, cat).await;
    queue::promote(&*db).await.unwrap();
    let held = given::claimed_by(&db, "five").await;
    assert_eq!(
        tests::settling::complete(&db, &[held.completion("done")])
            .await
            .unwrap(),
        [cat]
    );
    let attempts = queue::attempts(&db, cat).await.unwrap();
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.outcome.as_deref().unwrap()))
        .collect();
    assert_eq!(
        outcomes,
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
async fn a_retry_by_hand_forgives_only_one_interruption() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    for name in ["one", "two", "three"] {
        let held = given::claimed_by(&db, name).await;
        clock::lease_ran_out(&db, held.worker).await;
        assert_eq!(queue::rescue(&*db).await.unwrap(), [cat]);
    }
    assert_eq!(
        queue::retry(&db, cat, OWNER).await.unwrap(),
        RetryOutcome::Queued
    );
    let held = given::claimed_by(&db, "four").await;
    assert_eq!(
        held.claim.interruptions, 2,
        "the job is still a suspect and runs alone"
    );
    clock::lease_ran_out(&db, held.worker).await;
    queue::rescue(&*db).await.unwrap();
    assert_snapshot!(dump(&db).await, @r"
    cat failed lease=9 charged=0/3 interruptions=3/3 worker=four problem=too_many_interruptions
      1 one lost free worker_lost
      2 two lost free worker_lost
      3 three lost free worker_lost
      4 four lost free worker_lost
    ");
}

#[tokio::test]
async fn a_lease_from_before_a_retry_by_hand_cannot_complete_the_job() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    let stale = given::claimed_by(&db, "stale").await;
    tests::settling::fail(&db, &[(stale.lease(), fault())])
        .await
        .unwrap();
    queue::retry(&db, cat, OWNER).await.unwrap();
    let fresh = given::claimed_by(&db, "fresh").await;
    assert!(
        tests::settling::complete(&db, &[stale.completion("stale")])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        tests::settling::complete(&db, &[fresh.completion("fresh")])
            .await
            .unwrap(),
        [cat]
    );
}

#[tokio::test]
async fn a_retried_job_goes_behind_the_queued_jobs_of_its_owner() {
    let db = given::database().await;
    let cat = failed_job(&db, "cat").await;
    let [dog, owl] = given::queued(&db, ["dog", "owl"]).await;
    queue::retry(&db, cat, OWNER).await.unwrap();
    let [fox] = given::queued(&db, ["fox"]).await;
    let worker = given::worker(&db, "w").await;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(
            tests::claiming::claim(&db, worker, &[], 1)
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
    assert_eq!(queue::expire(&*db).await.unwrap(), [dog]);
    for job in [cat, dog] {
        assert_eq!(
            queue::retry(&db, job, OWNER).await.unwrap(),
            RetryOutcome::Queued
        );
        let job = queue::find(&db, job, given::OWNER).await.unwrap().unwrap();
        assert_eq!((job.state, job.deadline), (JobState::Queued, None));
    }
    assert!(queue::expire(&*db).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_an_unsuccessful_job_with_its_image_can_be_retried() {
    let db = given::database().await;
    let [cat] = given::queued(&db, ["cat"]).await;
    assert_eq!(
        queue::retry(&db, cat, OWNER).await.unwrap(),
        RetryOutcome::NotTerminal
    );
    let held = given::claimed_by(&db, "w").await;
    assert_eq!(
        queue::retry(&db, cat, OWNER).await.unwrap(),
        RetryOutcome::NotTerminal
    );
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    assert_eq!(
        queue::retry(&db, cat, OWNER).await.unwrap(),
        RetryOutcome::Succeeded
    );
    let dog = failed_job(&db, "dog").await;
    assert_eq!(
        queue::retry(&db, dog, Some("bob")).await.unwrap(),
        RetryOutcome::NotFound
    );
    assert_eq!(
        queue::retry(&db, JobId::now(), None).await.unwrap(),
        RetryOutcome::NotFound
    );
    assert_eq!(
        queue::purge(&db, dog, OWNER).await.unwrap(),
        PurgeOutcome::Done
    );
    assert_eq!(
        queue::retry(&db, dog, OWNER).await.unwrap(),
        RetryOutcome::InputPurged
    );
    let owl = failed_job(&db, "owl").await;
    sqlx::query("update images set purged_at = now()")
        .execute(&*db)
        .await
        .unwrap();
    assert_eq!(
        queue::retry(&db, owl, OWNER).await.unwrap(),
        RetryOutcome::InputPurged
    );
}

/// The reference and the version of a job, and its parameter.
async fn model_of(db: &PgPool, job: JobId) -> (String, i32, i64) {
    let job = queue::find(db, job, given::OWNER).await.unwrap().unwrap();
    let top_k = job.params["top_k"].as_i64().unwrap();
    (job.model_ref, job.model.version, top_k)
}

#[tokio::test]
async fn a_retry_on_the_current_version_takes_what_the_alias_means_now() {
    let db = given::database().await;
    let cat = failed_job(&db, "cat").await;
    given::newer_version(&db, "default", 1000).await;
    let queued = RetryOutcome::Queued;
    assert_eq!(queue::retry(&db, cat, OWNER).await.unwrap(), queued);
    let submitted = ("lite@default".to_owned(), 1, 5);
    assert_eq!(model_of(&db, cat).await, submitted);
    let held = given::claimed_by(&db, "w").await;
    tests::settling::fail(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    let again = queue::retry_on_current_version(&db, cat, OWNER).await;
    assert_eq!(again.unwrap(), queued);
    let current = ("lite@default".to_owned(), 2, 5);
    assert_eq!(model_of(&db, cat).await, current);
    let again = queue::retry_on_current_version(&db, cat, OWNER).await;
    assert_eq!(again.unwrap(), RetryOutcome::NotTerminal);
}

#[tokio::test]
async fn a_job_that_named_an_alias_keeps_it_and_one_that_named_a_version_takes_the_default() {
    let db = given::database().await;
    given::model_version(&db, given::MODEL).await;
    for (reference, retried_as) in [
        ("lite@stable", ("lite@stable".to_owned(), 1, 5)),
        ("lite:1", ("lite@default".to_owned(), 2, 5)),
    ] {
        let stable = jobs::models::set_alias(&db, given::MODEL, "stable", 1, "test").await;
        stable.unwrap();
        let model = given::resolved(&db, reference).await;
        let job = given::queued_with(&db, reference, |job| job.model = model).await;
        queue::cancel(&db, job, OWNER).await.unwrap();
        if reference == "lite@stable" {
            given::newer_version(&db, "default", 1000).await;
        }
        let retried = queue::retry_on_current_version(&db, job, OWNER).await;
        assert_eq!(retried.unwrap(), RetryOutcome::Queued);
        assert_eq!(model_of(&db, job).await, retried_as);
    }
}

#[tokio::test]
async fn a_job_that_does_not_fit_the_current_version_stays_failed() {
    let db = given::database().await;
    let cat = failed_job(&db, "cat").await;
    given::newer_version(&db, "default", 4).await;
    let refused = queue::retry_on_current_version(&db, cat, OWNER).await;
    assert_eq!(refused.unwrap(), RetryOutcome::ParamsDoNotFit);
    let other = queue::retry_on_current_version(&db, cat, Some("bob")).await;
    assert_eq!(other.unwrap(), RetryOutcome::NotFound);
    sqlx::query("delete from model_aliases")
        .execute(&*db)
        .await
        .unwrap();
    let refused = queue::retry_on_current_version(&db, cat, OWNER).await;
    assert_eq!(refused.unwrap(), RetryOutcome::NoVersion);
    let job = queue::find(&db, cat, given::OWNER).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Failed);
}

#[tokio::test]
async fn an_operator_retries_the_failed_jobs_of_a_model_on_its_current_version() {
    let db = given::database().await;
    let (cat, dog) = (failed_job(&db, "cat").await, failed_job(&db, "dog").await);
    given::newer_version(&db, "default", 1000).await;
    let one = sqlx::query("select ops.retry($1::uuid, current_model => true)");
    one.bind(cat.uuid()).execute(&*db).await.unwrap();
    let rest = "select ops.retry_failed('lite', 'model_error', current_model => true)";
    assert_eq!(query_number(&db, rest).await, 1);
    for job in [cat, dog] {
        assert_eq!(model_of(&db, job).await.1, 2);
    }
}
