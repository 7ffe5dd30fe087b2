//! Receivers that are down, slow, wrong or gone: which deliveries are sent again, and what their owners see.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tests::{Client, Receiver, Stack, clock, eventually, fixtures, receiver::Reply};

const ENV: [(&str, &str); 2] = [
    ("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true"),
    ("DARKROOM_WEBHOOK_TIMEOUT_MS", "500"),
];

/// Submits a job with a webhook, and cancels the job.
async fn end_job_with_webhook(client: &Client, url: &str) -> String {
    let query = format!("?webhook={url}");
    let job = client.submit(&query, fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap().to_owned();
    client.cancel(&id).await;
    id
}

/// The only delivery of the owner, once it has `count` attempts.
async fn after_attempts(client: &Client, count: usize) -> Value {
    let what = format!("{count} attempts were made");
    eventually(Duration::from_secs(20), &what, || async {
        let answer = client.get("/v1/webhook_deliveries").await.json();
        let one = answer["data"].as_array().unwrap().first().cloned()?;
        (one["attempts"].as_array().unwrap().len() == count).then_some(one)
    })
    .await
}

/// Time until the next attempt, in seconds.
fn pause_seconds(delivery: &Value) -> i64 {
    let next: DateTime<Utc> = delivery["next_attempt_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    (next - Utc::now()).num_seconds()
}

#[tokio::test]
async fn a_message_is_delivered_when_its_receiver_is_back() {
    let stack = Stack::without_workers_but(&ENV).await;
    let address = Receiver::start().await.address();
    // Now nothing listens at this address.
    let id = end_job_with_webhook(&stack.client, &format!("http://{address}/hook")).await;
    let failed = after_attempts(&stack.client, 1).await;
    assert_eq!(failed["status"], "pending");
    let error = failed["attempts"][0]["error"].as_str().unwrap();
    assert!(error.starts_with("no connection"), "{error}");
    assert!((2..=8).contains(&pause_seconds(&failed)), "{failed:#}");
    let back = Receiver::at(address).await;
    clock::webhooks_came_due(&stack.db).await;
    let heard = back.heard(1).await.pop().unwrap();
    assert_eq!(heard.json()["data"]["id"], id);
    assert_eq!(heard.header("webhook-id"), failed["id"]);
    let delivery = after_attempts(&stack.client, 2).await;
    assert_eq!(delivery["status"], "delivered");
    assert_eq!(delivery["next_attempt_at"], json!(null));
}

#[tokio::test]
async fn every_attempt_of_a_delivery_carries_the_id_of_the_delivery() {
    let stack = Stack::without_workers_but(&ENV).await;
    let receiver = Receiver::start().await;
    receiver.replies([
        Reply::Status(500),
        Reply::With(301, "location", receiver.url("/elsewhere")),
        Reply::Hangs,
        Reply::Status(404),
    ]);
    end_job_with_webhook(&stack.client, &receiver.url("/hook")).await;
    for attempts in 1..=4 {
        after_attempts(&stack.client, attempts).await;
        clock::webhooks_came_due(&stack.db).await;
    }
    let delivery = after_attempts(&stack.client, 5).await;
    assert_eq!(delivery["status"], "delivered");
    let heard = receiver.all();
    assert!(heard.iter().all(|one| one.id() == heard[0].id()));
    assert!(
        heard.iter().all(|one| one.path == "/hook"),
        "no redirect was followed"
    );
    let statuses: Vec<_> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["status"].clone())
        .collect();
    assert_eq!(
        statuses,
        [json!(500), json!(301), json!(null), json!(404), json!(200)]
    );
    let error = |attempt: usize| delivery["attempts"][attempt]["error"].as_str().unwrap();
    assert!(error(1).contains("/elsewhere"), "{}", error(1));
    assert_eq!(error(2), "no answer in time");
}

#[tokio::test]
async fn retry_after_of_a_receiver_delays_the_next_attempt() {
    let stack = Stack::without_workers_but(&ENV).await;
    let receiver = Receiver::start().await;
    receiver.replies([Reply::With(503, "retry-after", "1000".into())]);
    end_job_with_webhook(&stack.client, &receiver.url("/")).await;
    let delivery = after_attempts(&stack.client, 1).await;
    assert!(
        (900..=1000).contains(&pause_seconds(&delivery)),
        "{delivery:#}"
    );
}

#[tokio::test]
async fn a_delivery_fails_after_its_last_attempt() {
    let stack = Stack::without_workers_but(&ENV).await;
    let receiver = Receiver::start().await;
    receiver.serves("/", Reply::Status(500));
    end_job_with_webhook(&stack.client, &receiver.url("/")).await;
    for attempts in 1..=10 {
        let delivery = after_attempts(&stack.client, attempts).await;
        assert_eq!(delivery["status"], "pending", "after {attempts}");
        clock::webhooks_came_due(&stack.db).await;
    }
    let delivery = after_attempts(&stack.client, 11).await;
    assert_eq!(delivery["status"], "failed");
    assert!(delivery["ended_at"].is_string());
}

#[tokio::test]
async fn an_endpoint_that_answers_410_is_disabled() {
    let stack = Stack::without_workers_but(&ENV).await;
    let receiver = Receiver::start().await;
    receiver.serves("/", Reply::Status(410));
    let endpoint = json!({"url": receiver.url("/")});
    let made = stack
        .client
        .post_json("/v1/webhook_endpoints", &endpoint)
        .await;
    assert_eq!(made.status, 201);
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    stack.client.cancel(job["id"].as_str().unwrap()).await;
    let delivery = after_attempts(&stack.client, 1).await;
    assert_eq!(delivery["status"], "failed");
    let disabled = eventually(
        Duration::from_secs(10),
        "the endpoint is disabled",
        || async {
            let listed = stack.client.get("/v1/webhook_endpoints").await.json();
            listed["data"][0]["disabled_at"].as_str().map(str::to_owned)
        },
    );
    disabled.await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    stack.client.cancel(job["id"].as_str().unwrap()).await;
    let all = stack.client.get("/v1/webhook_deliveries").await.json();
    assert_eq!(all["data"].as_array().unwrap().len(), 1);
    assert_eq!(receiver.all().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_delay_another_receiver() {
    let env = [
        ENV[0],
        ("DARKROOM_WEBHOOK_SENDS_MAX", "4"),
        ("DARKROOM_WEBHOOK_SENDS_PER_HOST_MAX", "2"),
    ];
    let stack = Stack::without_workers_but(&env).await;
    let (hangs, answers) = (Receiver::start().await, Receiver::start().await);
    hangs.serves("/", Reply::Hangs);
    for _ in 0..6 {
        end_job_with_webhook(&stack.client, &hangs.url("/")).await;
    }
    hangs.heard(2).await;
    for _ in 0..6 {
        end_job_with_webhook(&stack.client, &answers.url("/")).await;
    }
    answers.heard(6).await;
    assert_eq!(hangs.all().len(), 2, "no more than the limit of one host");
}

/// An attempt at a silent host takes the ten seconds of the default timeout.
#[tokio::test]
async fn silent_hosts_of_one_owner_do_not_delay_another_owner() {
    const PENDING_OF_A_HOST: i32 = 100;
    let stack = Stack::without_workers_but(&ENV[..1]).await;
    let mut silent = vec![];
    for _ in 0..4 {
        let host = Receiver::start().await;
        host.serves("/", Reply::Hangs);
        silent.push(host);
    }
    let urls: Vec<_> = silent.iter().map(|host| host.url("/")).collect();
    sqlx::query(
        "insert into webhook_deliveries (owner, url, type, job_id)
         select 'mallory', url, 'job.failed', new_job_id() from unnest($1::text[]) url, generate_series(1, $2)",
    )
    .bind(urls)
    .bind(PENDING_OF_A_HOST)
    .execute(&*stack.db)
    .await
    .unwrap();
    // The sender is as busy with these as it gets.
    let busy = || silent.iter().map(|host| host.all().len()).sum::<usize>();
    eventually(
        Duration::from_secs(20),
        "silent hosts are called",
        || async { (busy() >= 16).then_some(()) },
    )
    .await;
    let answers = Receiver::start().await;
    let began = Instant::now();
    end_job_with_webhook(&stack.client, &answers.url("/")).await;
    answers.heard(1).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_delivery_of_a_killed_process_keeps_its_id_in_another_process() {
    let mut stack = Stack::without_workers_but(&ENV[..1]).await;
    let receiver = Receiver::start().await;
    receiver.replies([Reply::Hangs]);
    end_job_with_webhook(&stack.client, &receiver.url("/")).await;
    receiver.heard(1).await;
    stack.replace_killed_api_with(&ENV).await;
    let untouched = stack.client.get("/v1/webhook_deliveries").await.json();
    assert_eq!(untouched["data"][0]["attempts"], json!([]));
    clock::webhooks_came_due(&stack.db).await;
    let heard = receiver.heard(2).await;
    assert_eq!(heard[0].id(), heard[1].id());
    let delivery = after_attempts(&stack.client, 1).await;
    assert_eq!(delivery["status"], "delivered");
}
