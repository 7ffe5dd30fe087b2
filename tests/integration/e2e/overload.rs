//! I18: who cannot be served now is told so, with a time to come back, and nothing of it is kept.

use std::time::Duration;

use tests::{Stack, fixtures};

#[tokio::test(flavor = "multi_thread")]
async fn when_too_many_submits_wait_the_next_is_told_to_come_back() {
    let few = [
        ("DARKROOM_ENQUEUE_BATCH_MAX", "1"),
        ("DARKROOM_ENQUEUE_WAITING_MAX", "2"),
    ];
    let stack = Stack::without_workers_but(&few).await;
    // Nothing can be committed while the lanes are locked.
    let mut rival = stack.db.begin().await.unwrap();
    sqlx::query("lock table lanes in access exclusive mode")
        .execute(&mut *rival)
        .await
        .unwrap();
    let posts: Vec<_> = (0..10)
        .map(|_| {
            let client = stack.client.clone();
            let photo = fixtures::photo("cat.jpg");
            tokio::spawn(async move { client.post_job("", "image/jpeg", photo).await })
        })
        .collect();
    // One is being committed, two wait.
    tests::eventually(
        Duration::from_secs(20),
        "all others are answered",
        || async {
            let answered = posts.iter().filter(|post| post.is_finished()).count();
            (answered == 7).then_some(())
        },
    )
    .await;
    rival.rollback().await.unwrap();
    let mut accepted = 0;
    for post in posts {
        let answer = post.await.unwrap();
        if answer.status == 202 {
            accepted += 1;
            continue;
        }
        answer.problem(503, "queue_full");
        let seconds = answer.header("retry-after").expect("a time to come back");
        assert!(seconds.parse::<u32>().unwrap() >= 1, "{seconds}");
    }
    let queued: i64 = sqlx::query_scalar("select count(*) from live_jobs")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!((accepted, queued), (3, 3), "what was refused is not queued");
}
