//! I20: what receivers of webhooks hear.

use std::{collections::BTreeMap, time::Duration};

use jobs::{keys::Scope, queue};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Receiver, Stack, client::send, eventually, fixtures, given, receiver::Heard};

const PRIVATE: (&str, &str) = ("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true");

async fn submitted(client: &Client, webhook: &str) -> String {
    let query: String = match webhook {
        "" => String::new(),
        url => format!("?webhook={url}"),
    };
    let job = client.submit(&query, fixtures::photo("cat.jpg")).await;
    job["id"].as_str().unwrap().to_owned()
}

async fn secret(client: &Client) -> String {
    let answer = client.get("/v1/webhook_secret").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["secret"].as_str().unwrap().to_owned()
}

async fn endpoint(client: &Client, body: &Value) -> Value {
    let answer = client.post_json("/v1/webhook_endpoints", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn deliveries(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("/v1/webhook_deliveries{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].as_array().unwrap().clone()
}

async fn delivered(client: &Client, count: usize) -> Vec<Value> {
    eventually(Duration::from_secs(20), "all are delivered", || async {
        let all = deliveries(client, "?status=delivered").await;
        (all.len() == count).then_some(all)
    })
    .await
}

#[tokio::test]
async fn a_jobs_webhook_hears_how_it_ended_signed_with_its_owners_secret() {
    let stack = Stack::without_workers_but(&[PRIVATE]).await;
    let receiver = Receiver::start().await;
    let id = submitted(&stack.client, &receiver.url("/hook")).await;
    let held = given::claimed_by(&stack.db, "w").await;
    assert!(receiver.all().is_empty());
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
    let heard = receiver.heard(1).await.pop().unwrap();
    assert_eq!(heard.path, "/hook");
    assert_eq!(heard.header("content-type"), "application/json");
    assert!(heard.is_signed_by(&secret(&stack.client).await));
    assert!(!heard.is_signed_by("whsec_AAAA"));
    let sent_at: i64 = heard.header("webhook-timestamp").parse().unwrap();
    assert!((chrono::Utc::now().timestamp() - sent_at).abs() < 60);
    let told = heard.json();
    assert_eq!(told["type"], "job.succeeded");
    let mut job = stack.client.job(&id).await;
    assert_eq!(told["timestamp"], job["finished_at"]);
    job["attempts"].as_object_mut().unwrap().remove("items");
    assert_eq!(told["data"], job, "the job as REST shows it");
    let one = delivered(&stack.client, 1).await.pop().unwrap();
    assert_eq!(one["id"], heard.header("webhook-id"));
    assert_eq!(one["job_id"], id);
    assert_eq!(one["attempts"][0]["status"], 200);
    assert_eq!(receiver.all().len(), 1, "once");
}

#[tokio::test]
async fn an_endpoint_hears_what_it_subscribed_to_signed_with_a_secret_of_its_own() {
    let stack = Stack::without_workers_but(&[PRIVATE]).await;
    let receiver = Receiver::start().await;
    let wants = json!({"url": receiver.url("/failures"), "events": ["job.failed", "job.canceled"]});
    let made = endpoint(&stack.client, &wants).await;
    let listed = stack.client.get("/v1/webhook_endpoints").await.json();
    assert_eq!(listed["data"][0]["id"], made["id"]);
    assert_eq!(listed["data"][0].get("secret"), None, "shown once");
    submitted(&stack.client, "").await;
    let held = given::claimed_by(&stack.db, "w").await;
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
    let canceled = submitted(&stack.client, "").await;
    stack.client.cancel(&canceled).await;
    let heard = receiver.heard(1).await.pop().unwrap();
    assert_eq!(heard.json()["type"], "job.canceled");
    assert_eq!(heard.json()["data"]["id"], canceled);
    assert!(heard.is_signed_by(made["secret"].as_str().unwrap()));
    assert!(!heard.is_signed_by(&secret(&stack.client).await));
    delivered(&stack.client, 1).await;

    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());
    let deleted = send(stack.client.request(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, 204);
    let twice = send(stack.client.request(Method::DELETE, &path)).await;
    twice.problem(404, "not_found");
}

#[tokio::test]
async fn after_a_rotation_messages_carry_signatures_by_both_secrets() {
    let stack = Stack::without_workers_but(&[PRIVATE]).await;
    let receiver = Receiver::start().await;
    let before = secret(&stack.client).await;
    let rotate = stack
        .client
        .request(Method::POST, "/v1/webhook_secret/rotate");
    let rotated = send(rotate).await.json();
    assert!(rotated["previous_until"].is_string());
    let after = secret(&stack.client).await;
    assert_eq!(rotated["secret"], after.as_str());
    assert_ne!(before, after);
    let id = submitted(&stack.client, &receiver.url("/")).await;
    stack.client.cancel(&id).await;
    let heard = receiver.heard(1).await.pop().unwrap();
    assert!(heard.is_signed_by(&before) && heard.is_signed_by(&after));
}

#[tokio::test]
async fn two_processes_share_the_work_and_send_nothing_twice() {
    const JOBS: usize = 40;
    let stack = Stack::without_workers_but(&[PRIVATE]).await;
    let other = stack.another_api(&[PRIVATE]).await;
    let receiver = Receiver::start().await;
    let mut ids = vec![];
    for _ in 0..JOBS {
        ids.push(submitted(&stack.client, &receiver.url("/")).await);
    }
    let worker = given::worker(&stack.db, "w").await;
    let claims = queue::claim(&stack.db, worker, &[], 100).await.unwrap();
    let done: Vec<_> = claims
        .iter()
        .map(|claim| given::completion(claim.lease, "cat"))
        .collect();
    assert_eq!(done.len(), JOBS);
    tests::settling::complete(&stack.db, &done).await.unwrap();
    delivered(&stack.client, JOBS).await;
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
    let stack = Stack::without_workers_but(&[PRIVATE]).await;
    let receiver = Receiver::start().await;
    let id = submitted(&stack.client, &receiver.url("/")).await;
    stack.client.cancel(&id).await;
    let one = delivered(&stack.client, 1).await.pop().unwrap();
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
        .client_of("mallory", &[Scope::Submit, Scope::Read])
        .await;
    let theirs = send(mallory.request(Method::POST, &path)).await;
    theirs.problem(404, "not_found");
}

#[tokio::test]
async fn owners_do_not_see_or_touch_each_others_receivers() {
    let stack = Stack::without_workers_but(&[PRIVATE]).await;
    let receiver = Receiver::start().await;
    let made = endpoint(&stack.client, &json!({"url": receiver.url("/")})).await;
    let id = submitted(&stack.client, "").await;
    stack.client.cancel(&id).await;
    delivered(&stack.client, 1).await;
    let mallory = stack
        .client_of("mallory", &[Scope::Submit, Scope::Read])
        .await;
    assert_eq!(deliveries(&mallory, "").await, [json!(null); 0]);
    let listed = mallory.get("/v1/webhook_endpoints").await.json();
    assert_eq!(listed["data"], json!([]));
    assert_ne!(secret(&mallory).await, secret(&stack.client).await);
    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());
    let deleted = send(mallory.request(Method::DELETE, &path)).await;
    deleted.problem(404, "not_found");
    let theirs = submitted(&mallory, "").await;
    mallory.cancel(&theirs).await;
    let mine = submitted(&stack.client, "").await;
    stack.client.cancel(&mine).await;
    let heard = receiver.heard(2).await;
    let about = |heard: &Heard| heard.json()["data"]["id"].as_str().unwrap().to_owned();
    assert!(heard.iter().all(|heard| about(heard) != theirs));
    let read_only = stack.client_of("alice", &[Scope::Read]).await;
    read_only
        .get("/v1/webhook_secret")
        .await
        .problem(403, "forbidden");
}

#[tokio::test]
async fn deliveries_are_listed_by_job_and_status_page_by_page() {
    let stack = Stack::without_workers_but(&[PRIVATE]).await;
    let receiver = Receiver::start().await;
    let mut ids = vec![];
    for _ in 0..3 {
        let id = submitted(&stack.client, &receiver.url("/")).await;
        stack.client.cancel(&id).await;
        ids.push(id);
    }
    delivered(&stack.client, 3).await;
    let of_one = deliveries(&stack.client, &format!("?job_id={}", ids[1])).await;
    assert_eq!(of_one.len(), 1);
    assert_eq!(of_one[0]["job_id"], ids[1]);
    let page = stack.client.get("/v1/webhook_deliveries?limit=2").await;
    assert!(page.header("link").unwrap().contains("rel=\"next\""));
    let cursor = page.json()["next_cursor"].as_str().unwrap().to_owned();
    let rest = deliveries(&stack.client, &format!("?limit=2&cursor={cursor}")).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(deliveries(&stack.client, "?status=failed").await.len(), 0);
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
async fn what_must_not_be_connected_to_is_refused() {
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
    // A name may turn out to stand for such a place: nothing is sent, and the owner sees why.
    let id = submitted(&stack.client, "https://localhost/hook").await;
    stack.client.cancel(&id).await;
    let error = eventually(Duration::from_secs(10), "an attempt was made", || async {
        let all = deliveries(&stack.client, "").await;
        all[0]["attempts"][0]["error"].as_str().map(str::to_owned)
    })
    .await;
    assert!(error.contains("private"), "{error}");
}

#[tokio::test]
async fn an_owner_has_only_so_many_endpoints() {
    let limit = ("DARKROOM_WEBHOOK_ENDPOINTS_MAX", "2");
    let stack = Stack::bare(&[limit]).await;
    let body = json!({"url": "https://example.com/"});
    for _ in 0..2 {
        endpoint(&stack.client, &body).await;
    }
    let answer = stack.client.post_json("/v1/webhook_endpoints", &body).await;
    answer.problem(422, "invalid_params");
}
