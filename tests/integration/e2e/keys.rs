//! API keys over REST: created, shown once, listed, revoked.

use jobs::keys::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Stack, client::send};

async fn post_key(stack: &Stack, body: Value) -> Answer {
    stack.client.post_json("/v1/api_keys", &body).await
}

async fn create_key(stack: &Stack, body: Value) -> Value {
    let answer = post_key(stack, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn revoke(stack: &Stack, id: &str) -> Answer {
    let path = format!("/v1/api_keys/{id}");
    send(stack.client.request(Method::DELETE, &path)).await
}

#[tokio::test]
async fn a_key_is_shown_once_and_works_only_for_its_scopes_and_its_owner() {
    let stack = Stack::bare(&[]).await;
    let ahead = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let wanted = json!({
        "name": "  phones ", "owner": "shop", "scopes": ["read", "submit", "read"], "expires_at": ahead,
        "limits": {"requests_per_second": 7.5, "burst": 20, "queued_jobs_max": 100, "priority_max": 5},
    });
    let key = create_key(&stack, wanted).await;
    assert_eq!(key["object"], "api_key");
    assert_eq!(
        (&key["name"], &key["owner"]),
        (&json!("phones"), &json!("shop"))
    );
    assert_eq!(key["scopes"], json!(["submit", "read"]));
    let limits = json!({"requests_per_second": 7.5, "burst": 20, "queued_jobs_max": 100, "stored_bytes_max": null,
                        "priority_max": 5});
    assert_eq!(key["limits"], limits);
    let secret = key["key"].as_str().unwrap();
    assert!(secret.starts_with(key["prefix"].as_str().unwrap()));

    let client = stack.client_with(Some(secret));
    assert_eq!(client.get("/v1/jobs").await.status, 200);
    client.get("/v1/api_keys").await.problem(403, "forbidden");
    let listed = stack.client.get("/v1/api_keys?owner=shop").await;
    let after_the_prefix = &secret[key["prefix"].as_str().unwrap().len()..];
    assert!(
        !listed.text().contains(after_the_prefix),
        "the list must not show the secret"
    );
    let mut shown = key.clone();
    shown.as_object_mut().unwrap().remove("key");
    assert_eq!(listed.json()["data"], json!([shown]));
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_other_keys_of_the_owner_work() {
    let stack = Stack::bare(&[]).await;
    let wanted = |name: &str| json!({"name": name, "owner": "shop", "scopes": ["read"]});
    let (old, new) = (
        create_key(&stack, wanted("old")).await,
        create_key(&stack, wanted("new")).await,
    );
    let client = |key: &Value| stack.client_with(key["key"].as_str());
    for key in [&old, &new] {
        assert_eq!(client(key).get("/v1/jobs").await.status, 200);
    }
    let id = old["id"].as_str().unwrap();
    for _ in 0..2 {
        assert_eq!(revoke(&stack, id).await.status, 204);
    }
    client(&old)
        .get("/v1/jobs")
        .await
        .problem(401, "unauthorized");
    assert_eq!(client(&new).get("/v1/jobs").await.status, 200);
    let listed = stack.client.get("/v1/api_keys?owner=shop").await.json();
    let revoked: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (&key["name"], !key["revoked_at"].is_null()))
        .collect();
    assert_eq!(revoked, [(&json!("new"), false), (&json!("old"), true)]);
    for unknown in ["000000000000", "nothing", "%00", "x".repeat(100).as_str()] {
        revoke(&stack, unknown).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn keys_are_listed_in_pages_newest_first() {
    let stack = Stack::bare(&[]).await;
    for name in ["a", "b", "c", "d", "e"] {
        create_key(
            &stack,
            json!({"name": name, "owner": "shop", "scopes": ["read"]}),
        )
        .await;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/api_keys?owner=shop&limit=2".to_owned());
    loop {
        let page = stack.client.get(&path).await;
        let keys = page.json();
        let names = keys["data"].as_array().unwrap().iter();
        seen.extend(names.map(|key| key["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = keys["next_cursor"].as_str() else {
            assert_eq!(page.header("link"), None);
            break;
        };
        path = format!("/v1/api_keys?owner=shop&limit=2&cursor={cursor}");
        assert_eq!(
            page.header("link"),
            Some(format!("<{path}>; rel=\"next\"").as_str())
        );
    }
    assert_eq!(seen, ["e", "d", "c", "b", "a"]);
    for (query, pointer) in [
        ("limit=0", "/limit"),
        ("limit=501", "/limit"),
        ("cursor=x", "/cursor"),
        ("cursor=key_%00", "/cursor"),
        ("owner=%00", "/owner"),
        ("colour=red", "/colour"),
    ] {
        let refused = stack.client.get(&format!("/v1/api_keys?{query}")).await;
        refused.problem_at(422, "invalid_params", pointer);
    }
}

#[tokio::test]
async fn an_invalid_key_is_refused_with_a_pointer() {
    let stack = Stack::bare(&[]).await;
    let good = json!({"name": "n", "owner": "shop", "scopes": ["read"]});
    for (field, value, pointer) in [
        ("name", json!(" "), "/name"),
        ("name", json!("n".repeat(201)), "/name"),
        ("name", json!("nul\0"), "/name"),
        ("owner", json!("Shop"), "/owner"),
        ("owner", json!(""), "/owner"),
        ("owner", json!("a".repeat(64)), "/owner"),
        ("scopes", json!([]), "/scopes"),
        ("scopes", json!(["everything"]), "/scopes/0"),
        ("expires_at", json!("2020-01-01T00:00:00Z"), "/expires_at"),
        (
            "expires_at",
            json!("+200000-01-01T00:00:00Z"),
            "/expires_at",
        ),
        ("limits", json!({"burst": 0}), "/limits/burst"),
        (
            "limits",
            json!({"queued_jobs_max": -1}),
            "/limits/queued_jobs_max",
        ),
        (
            "limits",
            json!({"requests_per_second": -0.5}),
            "/limits/requests_per_second",
        ),
        (
            "limits",
            json!({"priority_max": 101}),
            "/limits/priority_max",
        ),
        (
            "limits",
            json!({"priority_max": -1}),
            "/limits/priority_max",
        ),
        ("limits", json!({"bursts": 1}), "/limits/bursts"),
        ("colour", json!("red"), "/colour"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        post_key(&stack, body)
            .await
            .problem_at(422, "invalid_params", pointer);
    }
    for broken in ["", "{", "[]"] {
        let request = stack.client.request(Method::POST, "/v1/api_keys");
        let refused = send(request.body(broken)).await;
        assert!(matches!(refused.status, 400 | 422), "{}", refused.text());
    }
    let keys = stack.client.get("/v1/api_keys?owner=shop").await.json();
    assert_eq!(keys["data"], json!([]));
}

#[tokio::test]
async fn the_audit_names_the_key_that_created_or_revoked_a_key() {
    let stack = Stack::bare(&[]).await;
    let wanted = json!({"name": "n", "owner": "shop", "scopes": ["read"]});
    let id = create_key(&stack, wanted).await["id"].clone();
    revoke(&stack, id.as_str().unwrap()).await;
    let acts: Vec<(String, String)> = sqlx::query_as(
        "select verb, subject from audit where actor like 'api key % of alice' order by audit_id",
    )
    .fetch_all(&*stack.db)
    .await
    .unwrap();
    let subject = id.as_str().unwrap().to_owned();
    let acts: Vec<_> = acts.iter().map(|(verb, of)| (verb.as_str(), of)).collect();
    assert_eq!(acts, [("create_key", &subject), ("revoke_key", &subject)]);
}

#[tokio::test]
async fn only_admins_create_keys() {
    let stack = Stack::bare(&[]).await;
    let others = [Scope::Submit, Scope::Read, Scope::Webhooks, Scope::Operate];
    let client = stack.client_of("bob", &others).await;
    let wanted = json!({"name": "n", "owner": "bob", "scopes": ["admin"]});
    let refused = client.post_json("/v1/api_keys", &wanted).await;
    refused.problem(403, "forbidden");
}
