//! Job groups: lines are taken once, a group ends once, and nothing that moves a job knows of it.

use jobs::{
    GroupId, JobId, Member, Problem, ProblemCode, Sha256Digest,
    groups::{self, Appended, Begun, Chunk, GroupStatus, Refusal, Resumed, Upload, Writer},
    models::Resolved,
    queue::{self, NewJob},
};
use serde_json::Map;
use sqlx::PgPool;
use tests::{Database, given};

async fn begun(db: &PgPool, key: Option<&str>) -> Writer {
    match groups::begin(db, given::OWNER, &Map::new(), key)
        .await
        .unwrap()
    {
        Begun::Yes(writer) => writer,
        Begun::KeyTaken => panic!("the key is taken"),
    }
}

fn member(model: &Resolved, group: GroupId, position: i32) -> NewJob {
    let name = format!("line {position}");
    let mut job = given::job(model, &name);
    job.member = Some(Member {
        group,
        position,
        custom_id: Some(name),
    });
    job
}

fn taken(lines: i32) -> Chunk {
    Chunk {
        lines,
        sha256: Sha256Digest::of(&lines.to_be_bytes()),
        refused: vec![],
    }
}

/// A sealed group of so many jobs.
async fn sealed(db: &PgPool, lines: i32) -> (GroupId, Vec<JobId>) {
    let writer = begun(db, None).await;
    let jobs = appended(db, writer, 1..=lines).await;
    assert!(groups::seal(db, writer).await.unwrap());
    (writer.group, jobs)
}

async fn appended(db: &PgPool, writer: Writer, lines: std::ops::RangeInclusive<i32>) -> Vec<JobId> {
    let model = given::model_version(db, given::MODEL).await;
    let last = *lines.end();
    let jobs: Vec<_> = lines
        .map(|line| member(&model, writer.group, line))
        .collect();
    queue::enqueue(db, &jobs).await.unwrap();
    let noted = groups::append(db, writer, &taken(last)).await.unwrap();
    assert_eq!(noted, Appended::Taken);
    jobs.iter().map(|job| job.id).collect()
}

async fn group(db: &PgPool, id: GroupId) -> groups::Group {
    groups::find(db, id, given::OWNER).await.unwrap().unwrap()
}

/// The next job succeeds.
async fn one_succeeds(db: &PgPool) {
    let held = given::claimed_by(db, "w").await;
    let done = queue::complete(db, &[held.completion("cat")])
        .await
        .unwrap();
    assert_eq!(done.len(), 1);
}

async fn one_fails(db: &PgPool) -> JobId {
    let held = given::claimed_by(db, "w").await;
    let torn = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    queue::fail(db, &[(held.lease(), torn)]).await.unwrap();
    held.job_id()
}

#[tokio::test]
async fn a_group_ends_with_the_last_of_its_jobs_and_only_once() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 2).await;
    one_succeeds(&db).await;
    assert!(groups::finish_due(&db).await.unwrap().is_empty());
    let running = group(&db, id).await;
    assert_eq!(running.status(), GroupStatus::Running);
    assert_eq!((running.counts.queued, running.counts.succeeded), (1, 1));
    one_succeeds(&db).await;
    assert_eq!(groups::finish_due(&db).await.unwrap(), [id]);
    assert!(groups::finish_due(&db).await.unwrap().is_empty());
    let ended = group(&db, id).await;
    assert_eq!(ended.status(), GroupStatus::Succeeded);
    assert!(ended.finished_at.is_some());
}

/// Whoever finds the end: it is told once, in the statement that makes it so.
#[tokio::test]
async fn the_end_of_a_group_is_one_event() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    assert!(groups::finish_due(&db).await.unwrap().is_empty());
    one_succeeds(&db).await;
    groups::finish_due(&db).await.unwrap();
    groups::finish_due(&db).await.unwrap();
    let told = sqlx::query_scalar::<_, uuid::Uuid>(
        "select group_id from events where type = 'batch.completed' and owner = $1",
    );
    let told = told.bind(given::OWNER).fetch_all(&*db).await.unwrap();
    assert_eq!(told, [id.uuid()]);
}

#[tokio::test]
async fn who_asks_sees_the_end_before_housekeeping_does() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    one_succeeds(&db).await;
    assert_eq!(group(&db, id).await.status(), GroupStatus::Succeeded);
    assert!(groups::finish_due(&db).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_group_whose_upload_goes_on_does_not_end() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    appended(&db, writer, 1..=1).await;
    one_succeeds(&db).await;
    assert!(groups::finish_due(&db).await.unwrap().is_empty());
    let open = group(&db, writer.group).await;
    assert_eq!(
        (open.status(), open.upload),
        (GroupStatus::Running, Upload::Open)
    );
}

#[tokio::test]
async fn a_group_of_refused_lines_alone_has_failed() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    let refused = Refusal {
        position: 1,
        custom_id: Some("a".into()),
        problem: Problem::new(ProblemCode::UnknownModel, "made up"),
    };
    let chunk = Chunk {
        refused: vec![refused],
        ..taken(1)
    };
    groups::append(&db, writer, &chunk).await.unwrap();
    groups::seal(&db, writer).await.unwrap();
    let ended = group(&db, writer.group).await;
    assert_eq!(ended.status(), GroupStatus::Failed);
    assert_eq!((ended.counts.total, ended.counts.refused), (1, 1));
}

#[tokio::test]
async fn a_retried_job_opens_its_group_again() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 2).await;
    one_succeeds(&db).await;
    let failed = one_fails(&db).await;
    assert_eq!(group(&db, id).await.status(), GroupStatus::PartlyFailed);
    queue::resubmit(&db, failed, None).await.unwrap();
    let again = group(&db, id).await;
    assert_eq!(again.status(), GroupStatus::Running);
    assert_eq!((again.counts.succeeded, again.counts.queued), (1, 1));
    one_succeeds(&db).await;
    assert_eq!(group(&db, id).await.status(), GroupStatus::Succeeded);
}

/// A retry whose commit comes late: the group is either not ended, or open again.
#[tokio::test]
async fn a_group_does_not_end_beside_a_retry_under_way() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    let failed = one_fails(&db).await;
    let slow = db.under_way().await;
    queue::resubmit(&slow, failed, None).await.unwrap();
    assert!(groups::finish_due(&db).await.unwrap().is_empty());
    sqlx::raw_sql("commit").execute(&slow).await.unwrap();
    assert!(groups::finish_due(&db).await.unwrap().is_empty());
    assert_eq!(group(&db, id).await.status(), GroupStatus::Running);
}

/// Whoever chose the group looked at it a moment before.
#[tokio::test]
async fn the_end_is_looked_for_anew_under_the_lock() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 1).await;
    let ended = async || -> bool {
        let ended = sqlx::query_scalar("select finish_group($1)").bind(id.uuid());
        ended.fetch_one(&*db).await.unwrap()
    };
    assert!(!ended().await, "a job lives");
    one_succeeds(&db).await;
    assert!(ended().await);
    assert!(!ended().await, "only once");
}

#[tokio::test]
async fn retry_failed_takes_the_failed_ones_alone() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 3).await;
    one_fails(&db).await;
    one_succeeds(&db).await;
    one_fails(&db).await;
    assert_eq!(
        groups::retry_failed(&db, id, "somebody-else")
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        groups::retry_failed(&db, id, given::OWNER).await.unwrap(),
        2
    );
    let again = group(&db, id).await.counts;
    assert_eq!((again.queued, again.succeeded, again.failed), (2, 1, 0));
}

#[tokio::test]
async fn a_cancel_ends_what_waits_and_asks_what_runs() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 3).await;
    one_succeeds(&db).await;
    let running = given::claimed_by(&db, "w").await;
    assert!(!groups::cancel(&db, id, "somebody-else").await.unwrap());
    assert!(groups::cancel(&db, id, given::OWNER).await.unwrap());
    assert_eq!(groups::cancel_some(&db, None).await.unwrap(), 2);
    assert_eq!(groups::cancel_some(&db, None).await.unwrap(), 0);
    let counts = group(&db, id).await.counts;
    assert_eq!(
        (counts.canceled, counts.running, counts.succeeded),
        (1, 1, 1)
    );
    queue::release(&db, &[running.lease()]).await.unwrap();
    assert_eq!(group(&db, id).await.status(), GroupStatus::Canceled);
    assert!(!groups::cancel(&db, id, given::OWNER).await.unwrap());
}

#[tokio::test]
async fn a_canceled_group_takes_no_more_lines() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    appended(&db, writer, 1..=1).await;
    groups::cancel(&db, writer.group, given::OWNER)
        .await
        .unwrap();
    let noted = groups::append(&db, writer, &taken(2)).await.unwrap();
    assert_eq!(noted, Appended::Canceled);
}

async fn silent_for_an_hour(db: &PgPool, id: GroupId) {
    sqlx::query("update groups set heard_at = now() - interval '1 hour' where group_id = $1")
        .bind(id.uuid())
        .execute(db)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_abandoned_upload_is_sealed_and_what_came_of_it_runs() {
    let db = given::database().await;
    let writer = begun(&db, None).await;
    appended(&db, writer, 1..=2).await;
    assert!(groups::seal_abandoned(&db, 60.0).await.unwrap().is_empty());
    silent_for_an_hour(&db, writer.group).await;
    assert_eq!(
        groups::seal_abandoned(&db, 60.0).await.unwrap(),
        [writer.group]
    );
    one_succeeds(&db).await;
    one_succeeds(&db).await;
    let ended = group(&db, writer.group).await;
    assert_eq!(ended.upload, Upload::BrokenOff);
    assert_eq!(
        ended.status(),
        GroupStatus::PartlyFailed,
        "lines may be missing"
    );
    let late = groups::append(&db, writer, &taken(3)).await.unwrap();
    assert_eq!(late, Appended::Lost);
}

#[tokio::test]
async fn one_key_stands_for_one_group() {
    let db = given::database().await;
    let writer = begun(&db, Some("k")).await;
    let again = groups::begin(&db, given::OWNER, &Map::new(), Some("k")).await;
    assert_eq!(again.unwrap(), Begun::KeyTaken);
    let earlier = queue::earlier(&db, given::OWNER, "k")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(earlier.group_id, Some(writer.group));
}

async fn resumed(db: &Database, id: GroupId) -> Resumed {
    groups::resume(db, id, given::OWNER, 30.0).await.unwrap()
}

#[tokio::test]
async fn an_upload_goes_on_behind_one_that_fell_silent_and_fences_it() {
    let db = given::database().await;
    let first = begun(&db, Some("k")).await;
    appended(&db, first, 1..=2).await;
    // Committed, and its uploader died before it could say so.
    let model = given::model_version(&db, given::MODEL).await;
    let unsaid = [member(&model, first.group, 3)];
    queue::enqueue(&db, &unsaid).await.unwrap();
    assert_eq!(resumed(&db, first.group).await, Resumed::InFlight);
    silent_for_an_hour(&db, first.group).await;
    let Resumed::From {
        writer,
        lines,
        sha256,
    } = resumed(&db, first.group).await
    else {
        panic!("it goes on");
    };
    assert_eq!((lines, sha256), (2, Some(taken(2).sha256)));
    let beyond = groups::taken_beyond(&db, first.group, lines).await.unwrap();
    assert_eq!(beyond, [3].into());
    assert_eq!(
        groups::append(&db, first, &taken(3)).await.unwrap(),
        Appended::Lost
    );
    assert_eq!(
        groups::append(&db, writer, &taken(3)).await.unwrap(),
        Appended::Taken
    );
    assert!(!groups::seal(&db, first).await.unwrap());
    assert!(groups::seal(&db, writer).await.unwrap());
    let complete = Resumed::Complete {
        lines: 3,
        sha256: Some(taken(3).sha256),
    };
    assert_eq!(resumed(&db, first.group).await, complete);
}

#[tokio::test]
async fn an_upload_goes_on_behind_one_that_was_sealed_as_broken_off() {
    let db = given::database().await;
    let first = begun(&db, Some("k")).await;
    appended(&db, first, 1..=1).await;
    silent_for_an_hour(&db, first.group).await;
    groups::seal_abandoned(&db, 60.0).await.unwrap();
    one_succeeds(&db).await;
    assert!(group(&db, first.group).await.has_ended());
    assert!(matches!(
        resumed(&db, first.group).await,
        Resumed::From { lines: 1, .. }
    ));
    let again = group(&db, first.group).await;
    assert_eq!(
        (again.status(), again.upload),
        (GroupStatus::Running, Upload::Open)
    );
}

#[tokio::test]
async fn results_are_lines_in_order_by_ranges_of_their_numbers() {
    let db = given::database().await;
    let (id, _) = sealed(&db, 5).await;
    let numbers = async |owner: &str, after, last| {
        let lines = groups::results(&db, id, owner, after, last).await.unwrap();
        lines.iter().map(|line| line.position).collect::<Vec<_>>()
    };
    one_succeeds(&db).await;
    assert_eq!(numbers(given::OWNER, 0, 5).await, [1, 2, 3, 4, 5]);
    assert_eq!(numbers(given::OWNER, 2, 4).await, [3, 4]);
    assert!(numbers("somebody-else", 0, 5).await.is_empty());
}

#[tokio::test]
async fn a_group_is_forgotten_once_no_data_of_its_jobs_is_left() {
    let db = given::database().await;
    let (id, jobs) = sealed(&db, 1).await;
    one_succeeds(&db).await;
    groups::finish_due(&db).await.unwrap();
    assert_eq!(groups::prune(&db, 0.0).await.unwrap(), 0, "its job is kept");
    queue::purge(&db, jobs[0], None).await.unwrap();
    assert_eq!(groups::prune(&db, 3600.0).await.unwrap(), 0, "too early");
    assert_eq!(groups::prune(&db, 0.0).await.unwrap(), 1);
    assert!(groups::find(&db, id, given::OWNER).await.unwrap().is_none());
}

#[tokio::test]
async fn jobs_are_listed_by_their_group() {
    let db = given::database().await;
    given::queued(&db, ["alone"]).await;
    let (id, mut jobs) = sealed(&db, 3).await;
    let filter = queue::Filter {
        group: Some(id),
        ..queue::Filter::default()
    };
    let listed = queue::list(&db, given::OWNER, &filter, 10).await.unwrap();
    jobs.reverse();
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), jobs);
}
