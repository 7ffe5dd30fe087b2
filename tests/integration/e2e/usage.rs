//! `GET /v1/stats` and `GET /v1/usage`.

use jobs::keys::Scope;
use serde_json::{Value, json};
use tests::{Stack, fixtures, given};

const SUBMIT_AND_READ: [Scope; 2] = [Scope::Submit, Scope::Read];

async fn complete_one_job(stack: &Stack) {
    let held = given::claimed_by(&stack.db, "w").await;
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
}

#[tokio::test]
async fn stats_count_the_jobs_of_all_owners_by_model() {
    let stack = Stack::without_workers().await;
    let bob = stack.client_of("bob", &SUBMIT_AND_READ).await;
    let photo = || fixtures::photo("cat.jpg");
    stack.client.submit("", photo()).await;
    bob.submit("", photo()).await;
    bob.submit("", photo()).await;
    bob.submit(
        &format!("?model={}&run_at=2999-01-01T00:00:00Z", fixtures::EMBEDDER),
        photo(),
    )
    .await;
    complete_one_job(&stack).await;
    given::claimed_by(&stack.db, "v").await;
    let stats = stack.client.get("/v1/stats").await.json();
    let counts = |of: &Value| json!([of["queued"], of["running"], of["scheduled"]]);
    assert_eq!(counts(&stats), json!([1, 1, 1]), "{stats:#}");
    let models = stats["models"].as_array().unwrap();
    let by_model: Vec<_> = models
        .iter()
        .map(|model| (model["model"].as_str().unwrap(), counts(model)))
        .collect();
    let wanted = [
        (fixtures::CLASSIFIER, json!([1, 1, 0])),
        (fixtures::EMBEDDER, json!([0, 0, 1])),
    ];
    assert_eq!(by_model, wanted);
    assert!(stats["oldest_age_seconds"].as_f64().unwrap() >= 0.0);
    assert!(stats["finished_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(models[0]["paused"], false);
    assert!(models[0]["desired_workers"].as_i64().unwrap() >= 1);
}

#[tokio::test]
async fn owners_see_their_own_usage_and_admins_see_all_usage() {
    let stack = Stack::without_workers().await;
    let bob = stack.client_of("bob", &SUBMIT_AND_READ).await;
    let photo = || fixtures::photo("cat.jpg");
    for client in [&stack.client, &bob, &bob] {
        client.submit("", photo()).await;
        complete_one_job(&stack).await;
    }
    let jobs = |usage: &Value| {
        let groups = usage["data"].as_array().unwrap().iter();
        let groups = groups.map(|group| json!([group["owner"], group["jobs"]]));
        groups.collect::<Vec<_>>()
    };
    let by_owner = "/v1/usage?group_by=owner";
    let all = stack.client.get(by_owner).await.json();
    assert_eq!(jobs(&all), [json!(["alice", 1]), json!(["bob", 2])]);
    let own = bob.get(by_owner).await.json();
    assert_eq!(jobs(&own), [json!(["bob", 2])]);
    assert_eq!(own["data"][0]["succeeded"], 2);
    let bytes = 2 * photo().len();
    assert_eq!(own["data"][0]["image_bytes"], bytes);
    let of_bob = stack.client.get("/v1/usage?group_by=owner&owner=bob").await;
    assert_eq!(jobs(&of_bob.json()), [json!(["bob", 2])]);
    let of_alice = bob.get("/v1/usage?owner=alice").await;
    of_alice.problem(403, "forbidden");
}

#[tokio::test]
async fn usage_is_grouped_and_filtered_on_request() {
    let stack = Stack::without_workers().await;
    for model in [fixtures::CLASSIFIER, fixtures::EMBEDDER] {
        let query = format!("?model={model}");
        stack
            .client
            .submit(&query, fixtures::photo("cat.jpg"))
            .await;
        complete_one_job(&stack).await;
    }
    let today = chrono::Utc::now().date_naive().to_string();
    let groups = |query: &str| {
        let path = format!("/v1/usage{query}");
        let client = stack.client.clone();
        async move {
            let usage = client.get(&path).await.json();
            let groups = usage["data"].as_array().unwrap().iter();
            let groups = groups.map(|group| json!([group["model"], group["jobs"]]));
            groups.collect::<Vec<_>>()
        }
    };
    assert_eq!(groups("").await, [json!([null, 2])]);
    let both = [
        json!([fixtures::CLASSIFIER, 1]),
        json!([fixtures::EMBEDDER, 1]),
    ];
    assert_eq!(groups("?group_by=model").await, both);
    let of_today = format!("?group_by=model,day&from={today}");
    assert_eq!(groups(&of_today).await, both);
    assert!(groups("?to=2020-01-01").await.is_empty());
    for (query, pointer) in [
        ("group_by=colour", "/group_by"),
        ("group_by=", "/group_by"),
        ("from=today", "/from"),
        ("to=%2B99999-01-01", "/to"),
        ("owner=%00", "/owner"),
        ("colour=red", "/colour"),
    ] {
        let refused = stack.client.get(&format!("/v1/usage?{query}")).await;
        refused.problem_at(422, "invalid_params", pointer);
    }
}
