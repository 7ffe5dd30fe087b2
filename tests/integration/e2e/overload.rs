//! I18: who cannot be served now is told so, with a time to come back, and nothing of it is kept.

use std::time::Duration;

use reqwest::Method;
use tests::{Stack, fixtures};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// Shedding load costs no upload: who cannot be served is told before the first byte of the body.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_queue_is_full_no_body_is_waited_for() {
    let few = [
        ("DARKROOM_ENQUEUE_BATCH_MAX", "1"),
        ("DARKROOM_ENQUEUE_WAITING_MAX", "2"),
    ];
    let stack = Stack::without_workers_but(&few).await;
    let mut rival = stack.db.begin().await.unwrap();
    sqlx::query("lock table lanes in access exclusive mode")
        .execute(&mut *rival)
        .await
        .unwrap();
    let post = || {
        let client = stack.client.clone();
        let photo = fixtures::photo("cat.jpg");
        tokio::spawn(async move { client.post_job("", "image/jpeg", photo).await })
    };
    let posts: Vec<_> = (0..10).map(|_| post()).collect();
    tests::eventually(Duration::from_secs(20), "the queue is full", || async {
        let answered = posts.iter().filter(|post| post.is_finished()).count();
        (answered == 7).then_some(())
    })
    .await;

    let host = stack.api.url.trim_start_matches("http://");
    let request = stack.client.request(Method::POST, "/v1/jobs");
    let request = request.build().unwrap();
    let key = request.headers()["authorization"].to_str().unwrap();
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(8), socket.read(&mut answer)).await;
    let length = read.expect("answered though the body never came").unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("queue_full"), "{answer}");
    rival.rollback().await.unwrap();
    for post in posts {
        post.await.unwrap();
    }
}
