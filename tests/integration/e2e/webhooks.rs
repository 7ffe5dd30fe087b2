//! I20: the messages that receivers of webhooks get.

use std::{collections::BTreeMap, time::Duration};

use jobs::keys::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Receiver, Stack, client::send, eventually, fixtures, given, receiver::Heard};

const ALLOW_PRIVATE: (&str, &str) = ("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true");

async fn submit_with_webhook(client: &Client, webhook: &str) -> String {
    let query: String = match webhook {
        "" => String::new(),
        url => format!("?webhook={url}"),
    };
    let job = client.submit(&query, fixtures::photo("cat.jpg")).await;
    job["id"].as_str().unwrap().to_owned()
}

async fn webhook_secret(client: &Client) -> String {
    let answer = client.get("/v1/webhook_secret").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["secret"].as_str().unwrap().to_owned()
}

async fn create_endpoint(client: &Client, body: &Value) -> Value {
    let answer = client.post_json("/v1/webhook_endpoints", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn list_deliveries(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("/v1/webhook_deliveries{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].as_array().unwrap().clone()
}

async fn wait_for_delivered(client: &Client, count: usize) -> Vec<Value> {
    eventually(
        Duration::from_secs(20),
        "all messages are delivered",
        || async {
            let all = list_deliveries(client, "?status=delivered").await;
            (all.len() == count).then_some(all)
        },
    )
    .await
}

#[tokio::test]
async fn a_webhook_hears_the_end_of_its_job_signed_with_the_owners_secret() {
    let stack = Stack::without_workers_but(&[ALLOW_PRIVATE]).await;
    let receiver = Receiver::start().await;
    let id = submit_with_webhook(&stack.client, &receiver.url("/hook")).await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    assert!(receiver.all().is_empty());
    tests::settling::complete(&stack.db, &[claimed.completion("cat")])
        .await
        .unwrap();
    let heard = receiver.heard(1).await.pop().unwrap();
    assert_eq!(heard.path, "/hook");
    assert_eq!(heard.header("content-type"), "application/json");
    assert!(heard.is_signed_by(&webhook_secret(&stack.client).await));
    assert!(!heard.is_signed_by("whsec_AAAA"));
    let sent_at: i64 = heard.header("webhook-timestamp").parse().unwrap();
    assert!((chrono::Utc::now().timestamp() - sent_at).abs() < 60);
    let message = heard.json();
    assert_eq!(message["type"], "job.succeeded");
    let mut job = stack.client.job(&id).await;
    assert_eq!(message["timestamp"], job["finished_at"]);
    job["attempts"].as_object_mut().unwrap().remove("items");
    assert_eq!(message["data"], job, "the job as the REST API shows it");
    let one = wait_for_delivered(&stack.client, 1).await.pop().unwrap();
    assert_eq!(one["id"], heard.header("webhook-id"));
    assert_eq!(one["job_id"], id);
    assert_eq!(one["attempts"][0]["status"], 200);
    assert_eq!(receiver.all().len(), 1, "one message only");
}

#[tokio::test]
async fn an_endpoint_hears_only_its_event_types_signed_with_its_own_secret() {
    let stack = Stack::without_workers_but(&[ALLOW_PRIVATE]).await;
    let receiver = Receiver::start().await;
    let request =
        json!({"url": receiver.url("/failures"), "events": ["job.failed", "job.canceled"]});
    let made = create_endpoint(&stack.client, &request).await;
    let listed = stack.client.get("/v1/webhook_endpoints").await.json();
    assert_eq!(listed["data"][0]["id"], made["id"]);
    assert_eq!(
        listed["data"][0].get("secret"),
        None,
        "the secret is shown only once"
    );
    submit_with_webhook(&stack.client, "").await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    tests::settling::complete(&stack.db, &[claimed.completion("cat")])
        .await
        .unwrap();
    let canceled = submit_with_webhook(&stack.client, "").await;
    stack.client.cancel(&canceled).await;
    let heard = receiver.heard(1).await.pop().unwrap();
    assert_eq!(heard.json()["type"], "job.canceled");
    assert_eq!(heard.json()["data"]["id"], canceled);
    assert!(heard.is_signed_by(made["secret"].as_str().unwrap()));
    assert!(!heard.is_signed_by(&webhook_secret(&stack.client).await));
    wait_for_delivered(&stack.client, 1).await;

    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());
    let deleted = send(stack.client.request(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, 204);
    let twice = send(stack.client.request(Method::DELETE, &path)).await;
    twice.problem(404, "not_found");
}

#[tokio::test]
async fn after_a_rotation_messages_carry_signatures_by_both_secrets() {
    let stack = Stack::without_workers_but(&[ALLOW_PRIVATE]).await;
    let receiver = Receiver::start().await;
    let before = webhook_secret(&stack.client).await;
    let rotate = stack
        .client
        .request(Method::POST, "/v1/webhook_secret/rotate");
    let rotated = send(rotate).await.json();
    assert!(rotated["previous_until"].is_string());
    let after = webhook_secret(&stack.client).await;
    assert_eq!(rotated["secret"], after.as_str());
    assert_ne!(before, after);
    let id = submit_with_webhook(&stack.client, &receiver.url("/")).await;
    stack.client.cancel(&id).await;
    let heard = receiver.heard(1).await.pop().unwrap();
    assert!(heard.is_signed_by(&before) && heard.is_signed_by(&after));

    let rotate = stack
        .client
        .request(Method::POST, "/v1/webhook_secret/rotate");
    send(rotate).await;
    let id = submit_with_webhook(&stack.client, &receiver.url("/")).await;
    stack.client.cancel(&id).await;
    let heard = receiver.heard(2).await.pop().unwrap();
    let latest = webhook_secret(&stack.client).await;
    for secret in [&before, &after, &latest] {
        assert!(heard.is_signed_by(secret), "every secret of this day signs");
    }
}

#[tokio::test]
async fn two_api_processes_send_each_message_once() {
    const JOBS: usize = 40;
    let stack = Stack::without_workers_but(&[ALLOW_PRIVATE]).await;
    let other = stack.another_api(&[ALLOW_PRIVATE]).await;
    let receiver = Receiver::start().await;
    let mut ids = vec![];
    for _ in 0..JOBS {
        ids.push(submit_with_webhook(&stack.client, &receiver.url("/")).await);
    }
    let worker = given::worker(&stack.db, "w").await;
    let claims = tests::claiming::claim(&stack.db, worker, &[], 100)
        .await
        .unwrap();
    let done: Vec<_> = claims
        .iter()
        .map(|claim| given::completion(claim.lease, "cat"))
        .collect();
    assert_eq!(done.len(), JOBS);
    tests::settling::complete(&stack.db, &done).await.unwrap();
    wait_for_delivered(&stack.client, JOBS).await;
    let mut times = BTreeMap::<String, u32>::new();
    for heard in receiver.all() {
        let job = heard.json()["data"]["id"].as_str().unwrap().to_owned();
        *times.entry(job).or_default() += 1;
    }
    ids.sort();
    assert!(times.keys().eq(&ids));
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    assert_eq!(receiver.at_once_max(), 1);
    drop(other);
}

#[tokio::test]
async fn a_delivery_is_sent_again_on_request() {
    let stack = Stack::without_workers_but(&[ALLOW_PRIVATE]).await;
    let receiver = Receiver::start().await;
    let id = submit_with_webhook(&stack.client, &receiver.url("/")).await;
    stack.client.cancel(&id).await;
    let one = wait_for_delivered(&stack.client, 1).await.pop().unwrap();
    let path = format!(
        "/v1/webhook_deliveries/{}/redeliver",
        one["id"].as_str().unwrap()
    );
    let again = send(stack.client.request(Method::POST, &path)).await;
    assert_eq!(again.status, 202, "{}", again.text());
    let heard = receiver.heard(2).await;
    assert_eq!(heard[0].id(), heard[1].id());
    assert_eq!(heard[0].body, heard[1].body);
    let mallory = stack
        .client_of("mallory", &[Scope::Submit, Scope::Webhooks])
        .await;
    let theirs = send(mallory.request(Method::POST, &path)).await;
    theirs.problem(404, "not_found");
}

#[tokio::test]
async fn an_owner_cannot_see_or_change_receivers_of_another_owner() {
    let stack = Stack::without_workers_but(&[ALLOW_PRIVATE]).await;
    let receiver = Receiver::start().await;
    let made = create_endpoint(&stack.client, &json!({"url": receiver.url("/")})).await;
    let id = submit_with_webhook(&stack.client, "").await;
    stack.client.cancel(&id).await;
    wait_for_delivered(&stack.client, 1).await;
    let mallory = stack
        .client_of("mallory", &[Scope::Submit, Scope::Webhooks])
        .await;
    assert_eq!(list_deliveries(&mallory, "").await, [json!(null); 0]);
    let listed = mallory.get("/v1/webhook_endpoints").await.json();
    assert_eq!(listed["data"], json!([]));
    assert_ne!(
        webhook_secret(&mallory).await,
        webhook_secret(&stack.client).await
    );
    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());
    let deleted = send(mallory.request(Method::DELETE, &path)).await;
    deleted.problem(404, "not_found");
    let theirs = submit_with_webhook(&mallory, "").await;
    mallory.cancel(&theirs).await;
    let mine = submit_with_webhook(&stack.client, "").await;
    stack.client.cancel(&mine).await;
    let heard = receiver.heard(2).await;
    let about = |heard: &Heard| heard.json()["data"]["id"].as_str().unwrap().to_owned();
    assert!(heard.iter().all(|heard| about(heard) != theirs));
}

/// A receiver gets the results of all jobs of its owner, so that a key which may only submit must not add one.
#[tokio::test]
async fn keys_that_only_submit_or_only_read_neither_add_receivers_nor_see_secrets() {
    let stack = Stack::bare(&[]).await;
    let endpoint = json!({"url": "https://example.com/"});
    for scope in [Scope::Submit, Scope::Read] {
        let scopes = [scope, Scope::Operate, Scope::Admin];
        let client = stack.client_of(given::OWNER, &scopes).await;
        let refused = client.post_json("/v1/webhook_endpoints", &endpoint).await;
        refused.problem(403, "forbidden");
        for path in ["webhook_secret", "webhook_endpoints", "webhook_deliveries"] {
            let refused = client.get(&format!("/v1/{path}")).await;
            refused.problem(403, "forbidden");
        }
        let rotate = client.request(Method::POST, "/v1/webhook_secret/rotate");
        send(rotate).await.problem(403, "forbidden");
    }
    for scopes in [&[Scope::Webhooks][..], &[Scope::Submit, Scope::Read]] {
        let allowed = stack.client_of(given::OWNER, scopes).await;
        create_endpoint(&allowed, &endpoint).await;
    }
}

#[tokio::test]
async fn deliveries_are_listed_by_job_and_status_page_by_page() {
    let stack = Stack::without_workers_but(&[ALLOW_PRIVATE]).await;
    let receiver = Receiver::start().await;
    let mut ids = vec![];
    for _ in 0..3 {
        let id = submit_with_webhook(&stack.client, &receiver.url("/")).await;
        stack.client.cancel(&id).await;
        ids.push(id);
    }
    wait_for_delivered(&stack.client, 3).await;
    let of_one = list_deliveries(&stack.client, &format!("?job_id={}", ids[1])).await;
    assert_eq!(of_one.len(), 1);
    assert_eq!(of_one[0]["job_id"], ids[1]);
    let page = stack.client.get("/v1/webhook_deliveries?limit=2").await;
    assert!(page.header("link").unwrap().contains("rel=\"next\""));
    let cursor = page.json()["next_cursor"].as_str().unwrap().to_owned();
    let rest = list_deliveries(&stack.client, &format!("?limit=2&cursor={cursor}")).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(
        list_deliveries(&stack.client, "?status=failed").await.len(),
        0
    );
    for query in [
        "?status=lost",
        "?job_id=1",
        "?limit=0",
        "?cursor=x",
        "?color=red",
    ] {
        let answer = stack
            .client
            .get(&format!("/v1/webhook_deliveries{query}"))
            .await;
        answer.problem(422, "invalid_params");
    }
}

#[tokio::test]
async fn private_and_invalid_receiver_addresses_are_refused() {
    let stack = Stack::without_workers().await;
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://example.com:8443/",
        "https://user:word@example.com/",
        "nonsense",
    ] {
        let endpoint = json!({ "url": url });
        let answer = stack
            .client
            .post_json("/v1/webhook_endpoints", &endpoint)
            .await;
        answer.problem_at(422, "invalid_params", "/url");
        let job = json!({"image": {"data": ""}, "webhook": endpoint});
        let answer = stack.client.post_json("/v1/jobs", &job).await;
        answer.problem_at(422, "invalid_params", "/webhook/url");
    }
    for (body, pointer) in [
        (
            json!({"url": "https://example.com/", "events": ["job.exploded"]}),
            "/events/0",
        ),
        (
            json!({"url": "https://example.com/", "events": []}),
            "/events",
        ),
        (
            json!({"url": "https://example.com/", "colour": "red"}),
            "/colour",
        ),
    ] {
        let answer = stack.client.post_json("/v1/webhook_endpoints", &body).await;
        answer.problem_at(422, "invalid_params", pointer);
    }
    // A name may resolve to a private address: nothing is sent, and the owner sees why.
    let id = submit_with_webhook(&stack.client, "https://localhost/hook").await;
    stack.client.cancel(&id).await;
    let error = eventually(Duration::from_secs(10), "an attempt was made", || async {
        let all = list_deliveries(&stack.client, "").await;
        all[0]["attempts"][0]["error"].as_str().map(str::to_owned)
    })
    .await;
    assert!(error.contains("private"), "{error}");
}

#[tokio::test]
async fn the_number_of_endpoints_of_an_owner_is_limited() {
    let limit = ("DARKROOM_WEBHOOK_ENDPOINTS_MAX", "2");
    let stack = Stack::bare(&[limit]).await;
    let body = json!({"url": "https://example.com/"});
    for _ in 0..2 {
        create_endpoint(&stack.client, &body).await;
    }
    let answer = stack.client.post_json("/v1/webhook_endpoints", &body).await;
    answer.problem(422, "invalid_params");
}

/// The stored form of a URL is checked before each attempt. An attempt that can only be refused is the last one.
#[tokio::test]
async fn a_url_that_is_too_long_in_its_stored_form_is_refused_at_once() {
    let stack = Stack::without_workers().await;
    let url = format!("https://example.com/{}", "ä".repeat(400));
    let endpoint = json!({ "url": url });
    let answer = stack
        .client
        .post_json("/v1/webhook_endpoints", &endpoint)
        .await;
    answer.problem_at(422, "invalid_params", "/url");
    let job = json!({"image": {"data": ""}, "webhook": endpoint});
    let answer = stack.client.post_json("/v1/jobs", &job).await;
    answer.problem_at(422, "invalid_params", "/webhook/url");

    let id = submit_with_webhook(&stack.client, "https://example.com/hook").await;
    sqlx::query("update live_jobs set webhook_url = 'http://example.com/hook'")
        .execute(&*stack.db)
        .await
        .unwrap();
    stack.client.cancel(&id).await;
    let failed = eventually(Duration::from_secs(10), "the delivery failed", || async {
        list_deliveries(&stack.client, "?status=failed").await.pop()
    })
    .await;
    assert_eq!(
        failed["attempts"].as_array().unwrap().len(),
        1,
        "{failed:#}"
    );
}
