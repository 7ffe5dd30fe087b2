//! `ops.audit` about keys and secrets: refused logins are counted, reads of secrets and deletions are listed.

use std::time::Duration;

use futures_util::future::join_all;
use jobs::{Sha256Digest, keys::Scope};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Stack, client::send, eventually, fixtures};

/// What is counted goes to the audit each second.
const SOON: (&str, &str) = ("DARKROOM_AUDIT_SECONDS", "1");
const LONGEST: Duration = Duration::from_secs(20);

/// The rows of these verbs: subject, why, count, and whether an address is named.
async fn counted(stack: &Stack, verb: &str) -> Vec<(String, String, i64, bool)> {
    sqlx::query_as(
        "select subject, arguments ->> 'why', (arguments ->> 'count')::bigint, arguments -> 'addresses' @> '[\"127.0.0.1\"]'
         from ops.audit where verb = $1 order by at",
    )
    .bind(verb)
    .fetch_all(&*stack.db)
    .await
    .unwrap()
}

async fn wait_for_count(stack: &Stack, verb: &str, count: i64) -> Vec<(String, String, i64, bool)> {
    eventually(LONGEST, "the audit has counted all", || async {
        let rows = counted(stack, verb).await;
        let sum: i64 = rows.iter().map(|(_, _, count, _)| count).sum();
        (sum >= count).then_some(rows)
    })
    .await
}

async fn refused(client: &Client) {
    let answer = client.get("/v1/jobs").await;
    answer.problem(401, "unauthorized");
}

async fn delete(client: &Client, path: &str) {
    let answer = send(client.request(Method::DELETE, path)).await;
    assert_eq!(answer.status, 204, "{path}: {}", answer.text());
}

/// The acts of alice's keys, without those that make keys.
async fn acts(stack: &Stack) -> Vec<(String, String)> {
    sqlx::query_as(
        "select verb, subject from ops.audit where actor like 'api key % of alice' and verb <> 'create_key' order by at",
    )
    .fetch_all(&*stack.db)
    .await
    .unwrap()
}

#[tokio::test]
async fn failed_logins_are_counted_and_no_caller_writes_a_row_for_each_request() {
    let stack = Stack::bare(&[SOON]).await;
    let key = stack.key().await;
    let id = key.split('_').nth(1).unwrap();
    let invented: Vec<_> = (0..60)
        .map(|number| stack.client_with(Some(&format!("dk_{number:012x}_secret"))))
        .collect();
    let guessed: Vec<_> = (0..60)
        .map(|number| stack.client_with(Some(&format!("dk_{id}_guess{number}"))))
        .collect();
    join_all(invented.iter().chain(&guessed).map(refused)).await;
    let rows = wait_for_count(&stack, "failed_login", 120).await;
    let count = |subject: &str, why: &str| -> i64 {
        let rows = rows
            .iter()
            .filter(|row| (&*row.0, &*row.1) == (subject, why));
        rows.map(|(_, _, count, _)| count).sum()
    };
    assert_eq!(count("unknown", "unknown_key"), 60, "{rows:?}");
    assert_eq!(count(id, "wrong_secret"), 60, "{rows:?}");
    assert!(rows.len() <= 60, "two rows a second at most: {rows:?}");
    assert!(rows.iter().all(|row| row.3), "the address: {rows:?}");
}

#[tokio::test]
async fn a_revoked_key_and_a_missing_scope_are_named_in_the_audit() {
    let stack = Stack::bare(&[SOON]).await;
    let wanted = json!({"name": "n", "owner": "bob", "scopes": ["read"]});
    let made = stack.client.post_json("/v1/api_keys", &wanted).await.json();
    let id = made["id"].as_str().unwrap();
    let client = stack.client_with(made["key"].as_str());
    for _ in 0..3 {
        client.get("/v1/api_keys").await.problem(403, "forbidden");
    }
    delete(&stack.client, &format!("/v1/api_keys/{id}")).await;
    refused(&client).await;
    for (verb, why, count) in [
        ("refused_scope", "admin", 3),
        ("refused_login", "revoked", 1),
    ] {
        let rows = wait_for_count(&stack, verb, count).await;
        let of_key = rows.iter().all(|row| row.0 == id && row.1 == why);
        assert!(of_key, "{verb}: {rows:?}");
    }
}

#[tokio::test]
async fn a_request_without_a_key_is_no_failed_login() {
    let stack = Stack::bare(&[SOON]).await;
    refused(&stack.client_with(None)).await;
    refused(&stack.client_with(Some("dk_000000000000_wrong"))).await;
    let rows = wait_for_count(&stack, "failed_login", 1).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&*rows[0].0, rows[0].2), ("unknown", 1));
}

#[tokio::test]
async fn the_last_use_of_a_key_is_shown() {
    let stack = Stack::bare(&[SOON]).await;
    for name in ["used", "idle"] {
        let wanted = json!({"name": name, "owner": "shop", "scopes": ["read"]});
        let made = stack.client.post_json("/v1/api_keys", &wanted).await.json();
        assert_eq!(made["last_used_at"], Value::Null);
        if name == "used" {
            let client = stack.client_with(made["key"].as_str());
            assert_eq!(client.get("/v1/jobs").await.status, 200);
        }
    }
    let keys = eventually(LONGEST, "the use of the key is noted", || async {
        let keys = stack.client.get("/v1/api_keys?owner=shop").await.json();
        let keys = keys["data"].as_array().unwrap().clone();
        keys.iter()
            .any(|key| key["last_used_at"].is_string())
            .then_some(keys)
    })
    .await;
    let used: Vec<_> = keys
        .iter()
        .map(|key| {
            (
                key["name"].as_str().unwrap(),
                key["last_used_at"].is_string(),
            )
        })
        .collect();
    assert_eq!(used, [("idle", false), ("used", true)]);
    let age = "select last_used_at between now() - interval '1 minute' and now() from ops.api_keys where name = 'used'";
    let is_recent: bool = sqlx::query_scalar(age).fetch_one(&*stack.db).await.unwrap();
    assert!(is_recent);
}

#[tokio::test]
async fn secrets_that_are_read_or_changed_are_in_the_audit_without_their_text() {
    let private = ("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true");
    let stack = Stack::bare(&[private]).await;
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let answer = stack.client.get("/v1/webhook_secret").await;
        secrets.push(answer.json()["secret"].clone());
    }
    let rotate = stack
        .client
        .request(Method::POST, "/v1/webhook_secret/rotate");
    secrets.push(send(rotate).await.json()["secret"].clone());
    let wanted = json!({"url": "http://127.0.0.1:9/services/token"});
    let made = stack
        .client
        .post_json("/v1/webhook_endpoints", &wanted)
        .await;
    let made = made.json();
    secrets.push(made["secret"].clone());
    let id = made["id"].as_str().unwrap();
    delete(&stack.client, &format!("/v1/webhook_endpoints/{id}")).await;
    let acts = acts(&stack).await;
    let acts: Vec<_> = acts.iter().map(|(verb, of)| (&**verb, &**of)).collect();
    let expected = [
        ("read_webhook_secret", "alice"), // three reads within a minute are one row
        ("rotate_webhook_secret", "alice"),
        ("create_webhook_endpoint", id),
        ("delete_webhook_endpoint", id),
    ];
    assert_eq!(acts, expected);
    let all = "select string_agg(a::text, '') from audit a";
    let all: String = sqlx::query_scalar(all).fetch_one(&*stack.db).await.unwrap();
    for secret in secrets {
        assert!(!all.contains(secret.as_str().unwrap()));
    }
    assert!(!all.contains("token"), "{all}");
}

#[tokio::test]
async fn a_deletion_is_one_row_however_often_it_is_repeated() {
    let stack = Stack::without_workers().await;
    let client = &stack.client;
    let submit = async |photo| {
        let job = client.submit("", fixtures::photo(photo)).await;
        let id = job["id"].as_str().unwrap().to_owned();
        client.cancel(&id).await;
        id
    };
    let deleted = submit("cat.jpg").await;
    for _ in 0..3 {
        delete(client, &format!("/v1/jobs/{deleted}")).await;
    }
    submit("coffee.jpg").await;
    let image = Sha256Digest::of(&fixtures::photo("coffee.jpg"));
    delete(client, &format!("/v1/images/{image}")).await;
    let other = stack.client_of("bob", &[Scope::Submit]).await;
    let missing = send(other.request(Method::DELETE, &format!("/v1/jobs/{deleted}"))).await;
    missing.problem(404, "not_found");
    let acts = acts(&stack).await;
    assert_eq!(
        acts,
        [
            ("delete_job".to_owned(), deleted),
            ("delete_image".to_owned(), image.to_string())
        ]
    );
    let strangers = "select count(*) from audit where actor like '% of bob'";
    let strangers: i64 = sqlx::query_scalar(strangers)
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(strangers, 0);
}
