//! I20, events: the transaction that ends a job also publishes the event for the owner.

use std::time::Duration;

use jobs::{
    BatchId, JobId, Problem, ProblemCode,
    events::{Cursor, Event, EventType, Subject, feed, latest},
    queue,
};
use sqlx::PgPool;
use tests::{clock, database::wait_until_done_or_blocked, eventually, given};

/// All event types except starts.
const ENDS: [EventType; 5] = [
    EventType::JobSucceeded,
    EventType::JobFailed,
    EventType::JobCanceled,
    EventType::JobExpired,
    EventType::BatchCompleted,
];

async fn events(db: &PgPool, owner: &str, after: Cursor) -> (Vec<Event>, Cursor) {
    let page = feed(db, owner, after, &ENDS, 100).await.unwrap();
    (page.events, page.next)
}

/// Waits for at least `count` events of the owner: open transactions of other tests on this server delay the feed.
async fn wait_for_events(db: &PgPool, count: usize) -> Vec<Event> {
    let what = format!("the feed has {count} events");
    eventually(Duration::from_secs(30), &what, || async {
        let (events, _) = events(db, given::OWNER, Cursor::BEGINNING).await;
        (events.len() >= count).then_some(events)
    })
    .await
}

fn job(event: &Event) -> JobId {
    match event.subject {
        Subject::Job(id) => id,
        Subject::Batch(_) => panic!("the event must be about a job"),
    }
}

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

#[tokio::test]
async fn every_verb_that_ends_a_job_publishes_an_event() {
    let db = given::database().await;
    let mut ended = vec![];
    let succeeded = given::queued(&db, ["succeeds"]).await[0];
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    ended.push((succeeded, EventType::JobSucceeded));

    let failed = given::queued(&db, ["fails"]).await[0];
    let held = given::claimed_by(&db, "w").await;
    tests::settling::fail(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    ended.push((failed, EventType::JobFailed));

    let spent = given::queued_with(&db, "uses all attempts", |job| job.attempts_max = 1).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::retry(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    ended.push((spent, EventType::JobFailed));

    let late = given::queued_with(&db, "takes too long", |job| job.attempts_max = 1).await;
    given::claimed_by(&db, "w").await;
    clock::attempt_ran_too_long(&db, late).await;
    queue::time_out(&*db).await.unwrap();
    ended.push((late, EventType::JobFailed));

    let lost = given::queued_with(&db, "is lost", |job| job.interruptions_max = 1).await;
    let held = given::claimed_by(&db, "w").await;
    clock::lease_ran_out(&db, held.worker).await;
    queue::rescue(&*db).await.unwrap();
    ended.push((lost, EventType::JobFailed));

    let given_back = given::queued(&db, ["is canceled and given back"]).await[0];
    let held = given::claimed_by(&db, "w").await;
    queue::cancel(&db, given_back, None).await.unwrap();
    tests::settling::release(&db, &[held.lease()])
        .await
        .unwrap();
    ended.push((given_back, EventType::JobCanceled));

    let canceled = given::queued(&db, ["is canceled"]).await[0];
    queue::cancel(&db, canceled, None).await.unwrap();
    ended.push((canceled, EventType::JobCanceled));

    let expired = given::queued(&db, ["expires"]).await[0];
    clock::deadline_passed(&db, expired).await;
    queue::expire(&*db).await.unwrap();
    ended.push((expired, EventType::JobExpired));

    let published = wait_for_events(&db, ended.len()).await;
    let published: Vec<_> = published
        .iter()
        .map(|event| (job(event), event.event_type))
        .collect();
    assert_eq!(published, ended);
    assert!(events(&db, "mallory", Cursor::BEGINNING).await.0.is_empty());
}

#[tokio::test]
async fn every_start_of_an_attempt_is_an_event() {
    let db = given::database().await;
    let id = given::queued(&db, ["is given back"]).await[0];
    let held = given::claimed_by(&db, "leaves").await;
    tests::settling::release(&db, &[held.lease()])
        .await
        .unwrap();
    given::claimed_by(&db, "stays").await;
    let started = || async {
        let starts = [EventType::JobStarted];
        let page = feed(db.pool(), given::OWNER, Cursor::BEGINNING, &starts, 100).await;
        let jobs: Vec<_> = page.unwrap().events.iter().map(job).collect();
        (jobs == [id, id]).then_some(())
    };
    eventually(Duration::from_secs(30), "the feed has both starts", started).await;
}

#[tokio::test]
async fn events_of_one_statement_can_be_read_in_pages() {
    let db = given::database().await;
    let ids = given::queued(&db, ["a", "b", "c", "d", "e"]).await;
    let worker = given::worker(&db, "w").await;
    let claims = tests::claiming::claim(&db, worker, &[], 5).await.unwrap();
    let done: Vec<_> = claims
        .iter()
        .map(|claim| given::completion(claim.lease, "cat"))
        .collect();
    tests::settling::complete(&db, &done).await.unwrap();
    wait_for_events(&db, ids.len()).await;
    let (mut after, mut read) = (Cursor::BEGINNING, vec![]);
    loop {
        let page = feed(db.pool(), given::OWNER, after, &ENDS, 2)
            .await
            .unwrap();
        if page.events.is_empty() {
            break;
        }
        read.extend(page.events.iter().map(job));
        // A client has the cursor as text.
        after = page.next.to_string().parse().unwrap();
    }
    read.sort();
    assert_eq!(read, ids);
}

#[tokio::test]
async fn the_feed_shows_no_uncommitted_event_and_omits_no_late_event() {
    let db = given::database().await;
    given::queued(&db, ["slow", "quick"]).await;
    let (slow, quick) = (
        given::claimed_by(&db, "slow").await,
        given::claimed_by(&db, "quick").await,
    );
    let uncommitted = db.in_open_transaction().await;
    tests::settling::complete(&uncommitted, &[slow.completion("cat")])
        .await
        .unwrap();
    let other_pool = db.another_pool();
    let done = quick.completion("cat");
    let completing =
        tokio::spawn(async move { tests::settling::complete(&other_pool, &[done]).await });
    wait_until_done_or_blocked(&db, &completing).await;
    // If the feed already shows the quick job, no later event may come before that job.
    let (mut read, after) = events(&db, given::OWNER, Cursor::BEGINNING).await;
    assert!(read.iter().all(|event| job(event) == quick.job_id()));
    sqlx::raw_sql("commit").execute(&uncommitted).await.unwrap();
    completing.await.unwrap().unwrap();
    wait_for_events(&db, 2).await;
    read.extend(events(&db, given::OWNER, after).await.0);
    let read: Vec<_> = read.iter().map(job).collect();
    assert_eq!(read, [slow.job_id(), quick.job_id()]);
}

#[tokio::test]
async fn a_job_that_was_retried_by_hand_publishes_a_second_end() {
    let db = given::database().await;
    let id = given::queued(&db, ["fails"]).await[0];
    let held = given::claimed_by(&db, "w").await;
    tests::settling::fail(&db, &[(held.lease(), fault())])
        .await
        .unwrap();
    let from_now_on = latest(&db).await.unwrap();
    queue::retry(&db, id, None).await.unwrap();
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    let types: Vec<_> = wait_for_events(&db, 2)
        .await
        .iter()
        .map(|event| event.event_type)
        .collect();
    assert_eq!(types, [EventType::JobFailed, EventType::JobSucceeded]);
    let since = events(&db, given::OWNER, from_now_on).await.0;
    assert_eq!(
        since.last().map(|event| event.event_type),
        Some(EventType::JobSucceeded)
    );
}

#[tokio::test]
async fn the_feed_can_be_filtered_by_event_type() {
    let db = given::database().await;
    let [canceled, _] = given::queued(&db, ["is canceled", "succeeds"]).await;
    queue::cancel(&db, canceled, None).await.unwrap();
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("cat")])
        .await
        .unwrap();
    wait_for_events(&db, 2).await;
    let types = [EventType::JobCanceled, EventType::BatchCompleted];
    let page = feed(db.pool(), given::OWNER, Cursor::BEGINNING, &types, 100).await;
    let jobs: Vec<_> = page.unwrap().events.iter().map(job).collect();
    assert_eq!(jobs, [canceled]);
}

#[tokio::test]
async fn the_end_of_a_batch_is_in_the_feed() {
    let db = given::database().await;
    let batch = BatchId::now();
    sqlx::query("select publish_event($1, 'batch.completed', $2)")
        .bind(given::OWNER)
        .bind(batch.uuid())
        .execute(&*db)
        .await
        .unwrap();
    let published = wait_for_events(&db, 1).await;
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].subject, Subject::Batch(batch));
    assert_eq!(published[0].event_type, EventType::BatchCompleted);
    let (rest, _) = events(&db, given::OWNER, published[0].cursor).await;
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn partitions_of_old_events_are_dropped() {
    let db = given::database().await;
    let id = given::queued(&db, ["a"]).await[0];
    queue::cancel(&db, id, None).await.unwrap();
    sqlx::raw_sql(
        "create table events_20200101 partition of events for values from ('2020-01-01') to ('2020-01-02');
         insert into events (owner, type, job_ids, at) values ('alice', 'job.failed', array[gen_random_uuid()], '2020-01-01 12:00:00+00');
         insert into events (owner, type, job_ids, at) values ('alice', 'job.failed', array[gen_random_uuid()], '2020-01-02 12:00:00+00')",
    )
    .execute(&*db)
    .await
    .unwrap();
    wait_for_events(&db, 3).await;
    assert_eq!(jobs::events::prune_events(&db, 86_400.0).await.unwrap(), 1);
    let left: Vec<_> = wait_for_events(&db, 1).await.iter().map(job).collect();
    assert_eq!(left, [id]);
}

/// The stream of a job reads the row of the job first and the attempts second.
#[tokio::test]
async fn an_attempt_that_ends_between_two_reads_is_listed_once() {
    let db = given::database().await;
    let [id] = given::queued(&db, ["cat"]).await;
    let held = given::claimed_by(&db, "w1").await;
    let job = queue::find(&db, id, given::OWNER).await.unwrap().unwrap();
    tests::settling::release(&db, &[held.lease()])
        .await
        .unwrap();
    let steps = jobs::events::history(&db, &job).await.unwrap();
    let types: Vec<_> = steps.iter().map(|step| step.step_type.as_str()).collect();
    assert_eq!(types, ["job.created", "job.started", "job.attempt_ended"]);
}
