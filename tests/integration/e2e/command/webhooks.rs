//! `darkroom webhooks …`, with a receiver of the test's own.

use serde_json::Value;
use std::time::Duration;
use tests::{Receiver, Stack, eventually, fixtures};

use super::{document, ids, says};

async fn canceled(stack: &Stack) -> String {
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap().to_owned();
    stack.client.cancel(&id).await;
    id
}

#[tokio::test]
async fn a_receiver_is_added_told_told_again_and_removed() {
    let private = ("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true");
    let stack = Stack::without_workers_but(&[private]).await;
    assert_eq!(
        says(&stack, 0, &["webhooks", "list"]).await,
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
    let made = document(&stack, 0, &add).await;
    let secret = made["secret"].as_str().unwrap();
    let list = says(&stack, 0, &["webhooks", "list"]).await;
    assert_eq!(ids(&list), [made["id"].as_str().unwrap()]);
    assert!(list.contains(&url) && !list.contains(secret), "{list}");

    let job = canceled(&stack).await;
    let heard = receiver.heard(1).await.remove(0);
    assert!(heard.is_signed_by(secret));
    let deliveries = eventually(Duration::from_secs(10), "it is delivered", || async {
        let list = says(&stack, 0, &["webhooks", "deliveries"]).await;
        list.contains("delivered").then_some(list)
    })
    .await;
    assert!(deliveries.contains(&job), "{deliveries}");
    let [id] = &ids(&deliveries)[..] else {
        panic!("one: {deliveries}");
    };
    let failed = ["webhooks", "deliveries", "--status", "failed"];
    assert_eq!(says(&stack, 0, &failed).await, "nothing was sent\n");
    assert_eq!(
        document(&stack, 0, &failed).await["data"],
        Value::Array(vec![])
    );
    says(&stack, 0, &["webhooks", "redeliver", id]).await;
    let again = receiver.heard(2).await.remove(1);
    assert_eq!(again.header("webhook-id"), heard.header("webhook-id"));

    let remove = ["webhooks", "remove", made["id"].as_str().unwrap()];
    says(&stack, 0, &remove).await;
    says(&stack, 5, &remove).await;
    assert_eq!(
        says(&stack, 0, &["webhooks", "list"]).await,
        "no receivers\n"
    );
}

#[tokio::test]
async fn the_secret_is_shown_and_replaced() {
    let stack = Stack::bare(&[]).await;
    let secret = says(&stack, 0, &["webhooks", "secret"]).await;
    assert!(secret.starts_with("whsec_"), "{secret}");
    assert_eq!(says(&stack, 0, &["webhooks", "secret"]).await, secret);
    let rotated = document(&stack, 0, &["webhooks", "secret", "--rotate"]).await;
    assert!(rotated["previous_until"].is_string());
    let now = says(&stack, 0, &["webhooks", "secret"]).await;
    assert_eq!(now.trim(), rotated["secret"]);
    assert_ne!(now, secret);
}

#[tokio::test]
async fn a_receiver_that_cannot_be_is_refused() {
    let stack = Stack::bare(&[]).await;
    for url in ["http://127.0.0.1/", "https://10.0.0.1/", "nonsense"] {
        says(&stack, 4, &["webhooks", "add", url]).await;
    }
    let unheard_of = [
        "webhooks",
        "add",
        "https://example.org/",
        "--events",
        "job.exploded",
    ];
    says(&stack, 4, &unheard_of).await;
    let nobody = "delivery_0198f3c2a1b47d1e8c55a0f3d2e1b4c7";
    says(&stack, 5, &["webhooks", "redeliver", nobody]).await;
    says(&stack, 2, &["webhooks", "redeliver", "../jobs"]).await;
}
