//! `darkroom webhooks …`, with a receiver that the test starts.

use serde_json::Value;
use std::time::Duration;
use tests::{Receiver, Stack, eventually, fixtures};

use super::{expect_exit, expect_json, ids};

async fn cancel_new_job(stack: &Stack) -> String {
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap().to_owned();
    stack.client.cancel(&id).await;
    id
}

#[tokio::test]
async fn a_receiver_is_added_gets_a_delivery_and_a_redelivery_and_is_removed() {
    let private = ("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true");
    let stack = Stack::without_workers_but(&[private]).await;
    assert_eq!(
        expect_exit(&stack, 0, &["webhooks", "list"]).await,
        "no receivers\n"
    );
    let receiver = Receiver::start().await;
    let url = receiver.url("/hook");
    let add = [
        "webhooks",
        "add",
        &url,
        "--events",
        "job.canceled,batch.completed",
    ];
    let made = expect_json(&stack, 0, &add).await;
    let secret = made["secret"].as_str().unwrap();
    let list = expect_exit(&stack, 0, &["webhooks", "list"]).await;
    assert_eq!(ids(&list), [made["id"].as_str().unwrap()]);
    assert!(list.contains(&url) && !list.contains(secret), "{list}");

    let job = cancel_new_job(&stack).await;
    let heard = receiver.heard(1).await.remove(0);
    assert!(heard.is_signed_by(secret));
    let deliveries = eventually(Duration::from_secs(10), "an event arrives", || async {
        let list = expect_exit(&stack, 0, &["webhooks", "deliveries"]).await;
        list.contains("delivered").then_some(list)
    })
    .await;
    assert!(deliveries.contains(&job), "{deliveries}");
    let [id] = &ids(&deliveries)[..] else {
        panic!("expected one delivery: {deliveries}");
    };
    let failed = ["webhooks", "deliveries", "--status", "failed"];
    assert_eq!(expect_exit(&stack, 0, &failed).await, "nothing was sent\n");
    assert_eq!(
        expect_json(&stack, 0, &failed).await["data"],
        Value::Array(vec![])
    );
    expect_exit(&stack, 0, &["webhooks", "redeliver", id]).await;
    let again = receiver.heard(2).await.remove(1);
    assert_eq!(again.header("webhook-id"), heard.header("webhook-id"));

    let remove = ["webhooks", "remove", made["id"].as_str().unwrap()];
    expect_exit(&stack, 0, &remove).await;
    expect_exit(&stack, 5, &remove).await;
    assert_eq!(
        expect_exit(&stack, 0, &["webhooks", "list"]).await,
        "no receivers\n"
    );
}

#[tokio::test]
async fn the_secret_is_shown_and_rotated() {
    let stack = Stack::bare(&[]).await;
    let secret = expect_exit(&stack, 0, &["webhooks", "secret"]).await;
    assert!(secret.starts_with("whsec_"), "{secret}");
    assert_eq!(
        expect_exit(&stack, 0, &["webhooks", "secret"]).await,
        secret
    );
    let rotated = expect_json(&stack, 0, &["webhooks", "secret", "--rotate"]).await;
    assert!(rotated["previous_until"].is_string());
    let now = expect_exit(&stack, 0, &["webhooks", "secret"]).await;
    assert_eq!(now.trim(), rotated["secret"]);
    assert_ne!(now, secret);
}

#[tokio::test]
async fn an_invalid_receiver_is_refused() {
    let stack = Stack::bare(&[]).await;
    for url in ["http://127.0.0.1/", "https://10.0.0.1/", "nonsense"] {
        expect_exit(&stack, 4, &["webhooks", "add", url]).await;
    }
    let unknown_event = [
        "webhooks",
        "add",
        "https://example.org/",
        "--events",
        "job.exploded",
    ];
    expect_exit(&stack, 4, &unknown_event).await;
    let unknown = "delivery_0198f3c2a1b47d1e8c55a0f3d2e1b4c7";
    expect_exit(&stack, 5, &["webhooks", "redeliver", unknown]).await;
    expect_exit(&stack, 2, &["webhooks", "redeliver", "../jobs"]).await;
}
