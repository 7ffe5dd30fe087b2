//! Connections to the store that lead nowhere, and nobody was told.

use std::time::Duration;

use futures_util::future::join_all;
use tests::{
    Stack, fixtures,
    proxy::{Proxy, Speaks, Weather},
};

const MANY: u8 = 12;

/// Each of these has an object of its own.
async fn accepted(stack: &Stack, nth: u8) -> bool {
    let mut photo = fixtures::photo("ladybird.jpg");
    photo.push(nth);
    let answer = stack.client.post_job("", "image/jpeg", photo).await;
    answer.status == 202
}

#[tokio::test]
async fn connections_to_the_store_that_lead_nowhere_do_not_cost_a_time_out_each() {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
    let endpoint = reqwest::Url::parse(&endpoint).unwrap();
    let proxy = Proxy::start(Speaks::Http, endpoint.port().unwrap()).await;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let stack = Stack::without_workers_but(&[
        ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
        ("DARKROOM_S3_TIMEOUT_MS", "3000"),
    ])
    .await;
    // Slow, so that each upload has a connection of its own.
    proxy.set(Weather {
        delay: Duration::from_millis(100),
        ..Weather::FAIR
    });
    let all = join_all((0..MANY).map(|nth| accepted(&stack, nth))).await;
    assert!(all.iter().all(|accepted| *accepted));
    let stranded = proxy.strand();
    proxy.set(Weather::FAIR);
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
