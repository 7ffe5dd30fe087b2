//! Connections to the store that lead nowhere, and nobody was told; or that break off.

use std::time::Duration;

use futures_util::future::join_all;
use tests::{
    Stack, fixtures,
    proxy::{NetworkState, On, Protocol, Proxy, Then, action},
};

const MANY: u8 = 12;

/// Each of these has an object of its own.
async fn accepted(stack: &Stack, nth: u8) -> bool {
    let mut photo = fixtures::photo("ladybird.jpg");
    photo.push(nth);
    let answer = stack.client.post_job("", "image/jpeg", photo).await;
    answer.status == 202
}

async fn in_front_of_the_store() -> (Proxy, String) {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
    let endpoint = reqwest::Url::parse(&endpoint).unwrap();
    let proxy = Proxy::start(Protocol::Http, endpoint.port().unwrap()).await;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    (proxy, endpoint)
}

/// Two thirds of a MiB of comments in front of the picture: no connection carries it in one piece.
fn long_photo(mark: &[u8]) -> Vec<u8> {
    let photo = fixtures::photo("ladybird.jpg");
    let mut comment = vec![0xff, 0xfe, 0xff, 0xff];
    comment.resize(2 + 0xffff, 0);
    comment[4..4 + mark.len()].copy_from_slice(mark);
    [&photo[..2], &comment.repeat(10), &photo[2..]].concat()
}

#[tokio::test]
async fn a_photo_that_breaks_off_on_its_way_is_fetched_again_and_not_given_back() {
    let mark = b"breaks off behind this";
    let (proxy, endpoint) = in_front_of_the_store().await;
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
    cut.await.expect("it broke off once");
    let attempts = job["attempts"]["items"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{job:#}");
}

#[tokio::test]
async fn connections_to_the_store_that_lead_nowhere_do_not_cost_a_time_out_each() {
    let (proxy, endpoint) = in_front_of_the_store().await;
    let stack = Stack::without_workers_but(&[
        ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
        ("DARKROOM_S3_TIMEOUT_MS", "3000"),
    ])
    .await;
    // Slow, so that each upload has a connection of its own.
    proxy.set(NetworkState {
        delay: Duration::from_millis(100),
        ..NetworkState::HEALTHY
    });
    let all = join_all((0..MANY).map(|nth| accepted(&stack, nth))).await;
    assert!(all.iter().all(|accepted| *accepted));
    let stranded = proxy.make_half_open();
    proxy.set(NetworkState::HEALTHY);
    assert!(stranded > 4, "only {stranded} connections: no test");
    let mut refused = 0;
    while !accepted(&stack, MANY + refused).await {
        refused += 1;
    }
    assert!(
        refused <= 2,
        "{refused} time-outs for {stranded} connections"
    );
}
