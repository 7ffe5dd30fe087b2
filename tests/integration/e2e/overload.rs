//! I18: a submit that cannot be served now gets `503` with `Retry-After`, and is not queued.

use std::time::Duration;

use jobs::keys::Scope;
use reqwest::Method;
use tests::{Stack, fixtures};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn when_too_many_submits_wait_the_next_gets_503_with_retry_after() {
    let small_queue = [
        ("DARKROOM_ENQUEUE_BATCH_MAX", "1"),
        ("DARKROOM_ENQUEUE_WAITING_MAX", "2"),
    ];
    let stack = Stack::without_workers_but(&small_queue).await;
    // Nothing can be committed while the lanes are locked.
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("lock table lanes in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let posts: Vec<_> = (0..10)
        .map(|_| {
            let client = stack.client.clone();
            let photo = fixtures::photo("cat.jpg");
            tokio::spawn(async move { client.post_job("", "image/jpeg", photo).await })
        })
        .collect();
    // One submit is being committed, and two wait.
    tests::eventually(
        Duration::from_secs(20),
        "the other submits are refused",
        || async {
            let answered = posts.iter().filter(|post| post.is_finished()).count();
            (answered == 7).then_some(())
        },
    )
    .await;
    lock.rollback().await.unwrap();
    let mut accepted = 0;
    for post in posts {
        let answer = post.await.unwrap();
        if answer.status == 202 {
            accepted += 1;
            continue;
        }
        answer.problem(503, "queue_full");
        let seconds = answer.header("retry-after").expect("a Retry-After header");
        assert!(seconds.parse::<u32>().unwrap() >= 1, "{seconds}");
    }
    let queued: i64 = sqlx::query_scalar("select count(*) from live_jobs")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!((accepted, queued), (3, 3), "refused submits are not queued");
}

/// Load shedding costs no upload: the refusal comes before the first byte of the body.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_a_submit_before_its_body_arrives() {
    let small_queue = [
        ("DARKROOM_ENQUEUE_BATCH_MAX", "1"),
        ("DARKROOM_ENQUEUE_WAITING_MAX", "2"),
    ];
    let stack = Stack::without_workers_but(&small_queue).await;
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("lock table lanes in access exclusive mode")
        .execute(&mut *lock)
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
    let length = read.expect("an answer before the body").unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("queue_full"), "{answer}");
    lock.rollback().await.unwrap();
    for post in posts {
        post.await.unwrap();
    }
}

/// Lists, usage and statistics have connections of their own, and each owner has a share of these.
#[tokio::test(flavor = "multi_thread")]
async fn reads_that_hang_hold_up_no_submit_and_no_other_owner() {
    let few = [("DARKROOM_DB_CONNECTIONS_MAX", "4")];
    let stack = Stack::without_workers_but(&few).await;
    let bob = stack.client_of("bob", &[Scope::Submit, Scope::Read]).await;
    // No usage can be read while its table is locked.
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("lock table usage_days in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let reads: Vec<_> = (0..8)
        .map(|_| {
            let client = stack.client.clone();
            tokio::spawn(async move { client.get("/v1/usage").await })
        })
        .collect();
    tests::database::wait_for_a_blocked_statement(&stack.db).await;
    for client in [&stack.client, &bob] {
        let id = client.submit("", fixtures::photo("cat.jpg")).await["id"].clone();
        client.job(id.as_str().unwrap()).await;
    }
    let listed = bob.get("/v1/jobs").await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    assert!(
        reads.iter().all(|read| !read.is_finished()),
        "the reads still hang"
    );
    lock.rollback().await.unwrap();
    for read in reads {
        let answer = read.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// A read has a short time: a client must not wait for half a minute, and the server must not work on for a client that left.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_takes_too_long_gets_503_with_retry_after() {
    let short = [("DARKROOM_DB_READ_TIMEOUT_MS", "500")];
    let stack = Stack::without_workers_but(&short).await;
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("lock table usage_days in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let answer = stack.client.get("/v1/usage").await;
    answer.problem(503, "service_unavailable");
    assert!(answer.header("retry-after").is_some());
    lock.rollback().await.unwrap();
    assert_eq!(stack.client.get("/v1/usage").await.status, 200);
}
