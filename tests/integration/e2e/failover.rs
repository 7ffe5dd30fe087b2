//! A failover under the real programs. They say that Postgres takes no writes, and work again without a restart.

use std::{process::Stdio, time::Duration};

use jobs::{
    db::Db,
    models::{self, ModelFolder},
};
use tests::{Answer, Client, Stack, eventually, fixtures, servers::Failover};
use tokio::time::timeout;

/// How soon everything works after the primary is back.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

async fn submit(client: &Client, photo: &[u8]) -> Answer {
    let body = photo.to_vec();
    client.post_job("", "application/octet-stream", body).await
}

#[tokio::test]
async fn after_a_failover_the_api_and_the_worker_go_on_without_a_restart() {
    let stack = Stack::bare(&[]).await;
    let fill = async |db: &Db| {
        let folder = ModelFolder::read(&fixtures::model(fixtures::CLASSIFIER)).unwrap();
        let pushed = models::push(db, &stack.store, &folder, None, false).await;
        pushed.unwrap();
    };
    let servers = Failover::start(fill).await;
    let url = servers.url();
    let over = [
        ("DATABASE_URL", url.as_str()),
        ("DARKROOM_INSECURE_NO_AUTH", "true"),
    ];
    let api = stack.another_api(&over).await;
    let worker = stack.worker("w", &over).await;
    let client = Client::new(&api.url, None);
    let photo = fixtures::photo("coffee.jpg");
    client.predicted("", photo.clone()).await;

    servers.lose_primary();
    eventually(Duration::from_secs(20), "the API is not ready", || async {
        let ready = client.get("/readyz").await;
        (ready.status == 503 && ready.text().contains("takes no writes")).then_some(())
    })
    .await;
    assert_eq!(client.get("/livez").await.status, 200);
    let mut command = stack.command_line("none");
    command
        .arg("submit")
        .arg(fixtures::folder().join("photos/coffee.jpg"))
        .env("DARKROOM_URL", &api.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let command = command.spawn().unwrap();
    let refused = submit(&client, &photo).await;
    refused.problem(503, "service_unavailable");
    assert!(refused.header("retry-after").is_some());

    servers.find_primary();
    eventually(RECOVERY_MAX, "a submit is accepted", || async {
        (submit(&client, &photo).await.status == 202).then_some(())
    })
    .await;
    eventually(RECOVERY_MAX, "the API is ready", || async {
        (client.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    client.predicted("", photo.clone()).await;
    let submitted = timeout(Duration::from_secs(30), command.wait_with_output()).await;
    let submitted = submitted.expect("the command ends").unwrap();
    let said = String::from_utf8_lossy(&submitted.stderr);
    assert!(
        submitted.status.success(),
        "the command tries again: {said}"
    );
    let charged = "select count(*) from attempts where charged";
    let charged: i64 = sqlx::query_scalar(charged)
        .fetch_one(&tests::servers::connect(&url))
        .await
        .unwrap();
    assert_eq!(charged, 0);
    assert!(api.is_running() && worker.is_running());
}
