//! `/console`: which keys may open the page, and what its script may do. The tests of the REST API cover the data.

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::{Sha256Digest, keys::Scope};
use reqwest::Method;
use serde_json::json;
use tests::{Answer, Client, Stack, client::send, given};

use super::{
    documents::find_external_load,
    every_route::{documented_routes, with_unknown_ids},
};

const CHALLENGE: &str =
    "Basic realm=\"Darkroom: a key with scope operate is the password\", charset=\"UTF-8\"";

/// Creates a key with this scope and returns its text.
async fn create_key(stack: &Stack, scope: &str) -> String {
    let wanted = json!({"name": "test", "owner": given::OWNER, "scopes": [scope]});
    let made = stack.client.post_json("/v1/api_keys", &wanted).await;
    made.json()["key"].as_str().unwrap().to_owned()
}

/// The `Authorization` header of a browser in which a user typed a name and a password.
fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

async fn open_with(stack: &Stack, authorization: &str) -> Answer {
    let request = stack
        .client_with(None)
        .request(Method::GET, "/console")
        .header("Authorization", authorization);
    send(request).await
}

async fn get_page(client: &Client) -> Answer {
    let page = client.get("/console").await;
    assert_eq!(page.status, 200, "{}", page.text());
    page
}

/// The text of the page's only script.
fn only_script(page: &str) -> &str {
    assert_eq!(page.matches("<script").count(), 1);
    let (_, rest) = page.split_once("<script type=module>").unwrap();
    rest.split_once("</script>").unwrap().0
}

#[tokio::test]
async fn the_console_needs_a_key_with_scope_operate() {
    let stack = Stack::bare(&[]).await;
    for key in [None, Some("dk_000000000000_nonsense")] {
        let refused = stack.client_with(key).get("/console").await;
        refused.problem(401, "unauthorized");
    }
    for scope in [Scope::Submit, Scope::Read, Scope::Admin] {
        let client = stack.client_of(given::OWNER, &[scope]).await;
        client.get("/console").await.problem(403, "forbidden");
    }
    let operator = stack.client_of(given::OWNER, &[Scope::Operate]).await;
    let page = get_page(&operator).await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    let same_origin = page.header("cross-origin-resource-policy");
    assert_eq!(same_origin, Some("same-origin"));
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let refused = send(operator.request(method, "/console")).await;
        refused.problem(405, "invalid_request");
        assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    }
}

#[tokio::test]
async fn a_browser_is_asked_for_the_key_and_may_send_basic_credentials() {
    let stack = Stack::bare(&[]).await;
    let without_key = stack.client_with(None).get("/console").await;
    without_key.problem(401, "unauthorized");
    assert_eq!(without_key.header("www-authenticate"), Some(CHALLENGE));

    let key = create_key(&stack, "operate").await;
    let without_a_colon = format!("Basic {}", STANDARD.encode(&key));
    let wrong = [
        basic("", ""),
        basic(&key, ""),
        basic("", "dk_000000000000_nonsense"),
        basic("", "dk_\0_nonsense"),
        basic("", "dk_\u{fc}_nonsense"),
        without_a_colon,
        "Basic ???".into(),
        "Basic".into(),
        format!("Digest {key}"),
    ];
    for wrong in wrong {
        let refused = open_with(&stack, &wrong).await;
        refused.problem(401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), Some(CHALLENGE));
    }

    let in_the_page = format!("<meta name=darkroom-key content=\"{key}\">");
    for right in [
        basic("", &key),
        basic("operator", &key),
        basic("", &key).replace("Basic", "basic"),
        format!("Bearer {key}"),
    ] {
        let page = open_with(&stack, &right).await;
        assert_eq!(page.status, 200, "{right}: {}", page.text());
        assert!(page.text().contains(&in_the_page), "{right}");
    }
    let reader = create_key(&stack, "read").await;
    let refused = open_with(&stack, &basic("", &reader)).await;
    refused.problem(403, "forbidden");
}

/// Browsers send Basic credentials by themselves, also for requests that a page of another site makes.
#[tokio::test]
async fn no_other_route_accepts_basic_credentials() {
    let stack = Stack::bare(&[]).await;
    let key = stack.key().await;
    let page = open_with(&stack, &basic("", &key)).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let anonymous = stack.client_with(None);
    for (method, path, operation) in documented_routes(&stack).await {
        let request = anonymous.request(method, &with_unknown_ids(&path));
        let request = request.header("Authorization", basic("", &key));
        let refused = if operation["requestBody"].is_object() {
            send(request.json(&json!({"version": 1}))).await
        } else {
            send(request).await
        };
        refused.problem(401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{path}");
    }
}

#[tokio::test]
async fn the_page_may_run_only_its_own_script() {
    let stack = Stack::bare(&[]).await;
    let page = get_page(&stack.client).await;
    let text = page.text();
    let script = Sha256Digest::of(only_script(&text).as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        STANDARD.encode(script.as_bytes())
    );
    let header = page.header("content-security-policy");
    assert_eq!(header, Some(policy.as_str()));
    assert_eq!(find_external_load(&text), None);
}

/// Texts of jobs, workers and problems may contain markup; the page shows such markup as plain text.
#[tokio::test]
async fn the_script_never_turns_received_text_into_markup() {
    let stack = Stack::bare(&[]).await;
    let text = get_page(&stack.client).await.text();
    let script = only_script(&text);
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "createContextualFragment",
        "setHTML",
        "srcdoc",
        "eval(",
        "Function(",
    ] {
        assert!(!script.contains(way), "{way}");
    }
}

#[tokio::test]
async fn every_path_that_the_console_requests_exists() {
    let stack = Stack::bare(&[]).await;
    let routes = documented_routes(&stack).await;
    let text = get_page(&stack.client).await.text();
    let script = only_script(&text);
    let mut asked = 0;
    for (at, _) in script.match_indices("/v1/") {
        let (before, rest) = script.split_at(at);
        let path = rest.split('"').next().unwrap();
        let method = before.trim_end().rsplit('"').next().unwrap();
        let is_there = routes
            .iter()
            .any(|(known, template, _)| known.as_str() == method && template == path);
        assert!(is_there, "{method} {path}");
        asked += 1;
    }
    assert!(asked >= 10, "{asked}");
}

#[tokio::test]
async fn the_page_contains_no_key_when_the_service_needs_none() {
    let stack = Stack::bare(&[("DARKROOM_INSECURE_NO_AUTH", "true")]).await;
    let page = get_page(&stack.client_with(None)).await.text();
    assert!(page.contains("<meta name=darkroom-key content=\"\">"));
}
