//! Connections to the store that are half-open or break.

use std::time::Duration;

use futures_util::future::join_all;
use tests::{
    Stack, fixtures,
    proxy::{NetworkState, On, Protocol, Proxy, Then, action},
};

const MANY: u8 = 12;

/// Submits a photo that has its own object; returns whether the API accepted the job.
async fn submit_is_accepted(stack: &Stack, nth: u8) -> bool {
    let mut photo = fixtures::photo("ladybird.jpg");
    photo.push(nth);
    let answer = stack.client.post_job("", "image/jpeg", photo).await;
    answer.status == 202
}

async fn start_proxy_to_the_store() -> (Proxy, String) {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
    let endpoint = reqwest::Url::parse(&endpoint).unwrap();
    let proxy = Proxy::start(Protocol::Http, endpoint.port().unwrap()).await;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    (proxy, endpoint)
}

/// A photo with two thirds of a MiB of comments, so that it comes in several pieces.
fn long_photo(mark: &[u8]) -> Vec<u8> {
    let photo = fixtures::photo("ladybird.jpg");
    let mut comment = vec![0xff, 0xfe, 0xff, 0xff];
    comment.resize(2 + 0xffff, 0);
    comment[4..4 + mark.len()].copy_from_slice(mark);
    [&photo[..2], &comment.repeat(10), &photo[2..]].concat()
}

#[tokio::test]
async fn a_broken_fetch_is_repeated_within_one_attempt() {
    let mark = b"breaks off behind this";
    let (proxy, endpoint) = start_proxy_to_the_store().await;
    let stack = Stack::with_models().await;
    let job = stack.client.submit("", long_photo(mark)).await;
    let cut = proxy.arm(
        On::AnswerContains(mark.to_vec()),
        action(|| async { Then::Cut }),
    );
    let endpoint = ("AWS_ENDPOINT_URL_S3", endpoint.as_str());
    let _worker = stack.worker("w", &[endpoint]).await;
    let job = stack.client.ended(job["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
    cut.await.expect("the connection broke once");
    let attempts = job["attempts"]["items"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{job:#}");
}

#[tokio::test]
async fn half_open_connections_to_the_store_do_not_each_cost_a_timeout() {
    let (proxy, endpoint) = start_proxy_to_the_store().await;
    let stack = Stack::without_workers_but(&[
        ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
        ("DARKROOM_S3_TIMEOUT_MS", "3000"),
    ])
    .await;
    // The store is slow, so that each upload opens its own connection.
    proxy.set(NetworkState {
        delay: Duration::from_millis(100),
        ..NetworkState::HEALTHY
    });
    let all = join_all((0..MANY).map(|nth| submit_is_accepted(&stack, nth))).await;
    assert!(all.iter().all(|accepted| *accepted));
    let stranded = proxy.make_half_open();
    proxy.set(NetworkState::HEALTHY);
    assert!(stranded > 4, "too few connections: {stranded}");
    let mut refused = 0;
    while !submit_is_accepted(&stack, MANY + refused).await {
        refused += 1;
    }
    assert!(
        refused <= 2,
        "{refused} time-outs for {stranded} connections"
    );
}
