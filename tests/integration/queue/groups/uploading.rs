//! Lines come once: of one upload, or of one that goes on behind it.

use jobs::{
    GroupId,
    groups::{self, Appended, Begun, GroupStatus, Resumed, Upload},
    queue,
};
use serde_json::Map;
use sqlx::PgPool;
use tests::{Database, given};

use super::{appended, begun, group, member, one_succeeds, taken};

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
    assert!(groups::seal_abandoned(&*db, 60.0).await.unwrap().is_empty());
    silent_for_an_hour(&db, writer.group).await;
    assert_eq!(
        groups::seal_abandoned(&*db, 60.0).await.unwrap(),
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
    groups::seal_abandoned(&*db, 60.0).await.unwrap();
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
