//! Rules for every route of the OpenAPI document. `ROUTES` says what each route needs; a missing route fails the tests.

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::keys::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, client::send, fixtures, given};

/// Every route, the scope that it needs, and the kind of resource in its path.
const ROUTES: [(&str, Scope, Resource); 46] = [
    ("POST /v1/jobs", Scope::Submit, Resource::None),
    ("GET /v1/jobs", Scope::Read, Resource::None),
    ("GET /v1/jobs/{id}", Scope::Read, Resource::Job),
    ("DELETE /v1/jobs/{id}", Scope::Submit, Resource::Job),
    ("GET /v1/jobs/{id}/result", Scope::Read, Resource::Job),
    ("POST /v1/jobs/{id}/cancel", Scope::Submit, Resource::Job),
    ("POST /v1/jobs/{id}/retry", Scope::Submit, Resource::Job),
    ("GET /v1/jobs/{id}/explain", Scope::Read, Resource::Job),
    ("GET /v1/jobs/{id}/events", Scope::Read, Resource::Job),
    ("GET /v1/events", Scope::Read, Resource::None),
    ("POST /v1/batches", Scope::Submit, Resource::None),
    ("GET /v1/batches", Scope::Read, Resource::None),
    ("GET /v1/batches/{id}", Scope::Read, Resource::Batch),
    ("GET /v1/batches/{id}/results", Scope::Read, Resource::Batch),
    (
        "POST /v1/batches/{id}/cancel",
        Scope::Submit,
        Resource::Batch,
    ),
    (
        "POST /v1/batches/{id}/retry_failed",
        Scope::Submit,
        Resource::Batch,
    ),
    ("POST /v1/uploads", Scope::Submit, Resource::None),
    ("POST /v1/images", Scope::Submit, Resource::None),
    ("GET /v1/images/{sha256}", Scope::Read, Resource::Image),
    (
        "GET /v1/images/{sha256}/content",
        Scope::Read,
        Resource::Image,
    ),
    ("DELETE /v1/images/{sha256}", Scope::Submit, Resource::Image),
    (
        "POST /v1/webhook_endpoints",
        Scope::Webhooks,
        Resource::None,
    ),
    ("GET /v1/webhook_endpoints", Scope::Webhooks, Resource::None),
    (
        "DELETE /v1/webhook_endpoints/{id}",
        Scope::Webhooks,
        Resource::Endpoint,
    ),
    ("GET /v1/webhook_secret", Scope::Webhooks, Resource::None),
    (
        "POST /v1/webhook_secret/rotate",
        Scope::Webhooks,
        Resource::None,
    ),
    (
        "GET /v1/webhook_deliveries",
        Scope::Webhooks,
        Resource::None,
    ),
    (
        "POST /v1/webhook_deliveries/{id}/redeliver",
        Scope::Webhooks,
        Resource::Delivery,
    ),
    ("GET /v1/models", Scope::Read, Resource::None),
    ("GET /v1/models/{name}", Scope::Read, Resource::Shared),
    (
        "GET /v1/models/{name}/versions",
        Scope::Read,
        Resource::Shared,
    ),
    (
        "POST /v1/models/{name}/versions",
        Scope::Admin,
        Resource::Shared,
    ),
    (
        "PUT /v1/models/{name}/aliases/{alias}",
        Scope::Admin,
        Resource::Shared,
    ),
    (
        "DELETE /v1/models/{name}/aliases/{alias}",
        Scope::Admin,
        Resource::Shared,
    ),
    (
        "POST /v1/models/{name}/versions/{version}/retire",
        Scope::Admin,
        Resource::Shared,
    ),
    (
        "POST /v1/models/{name}/versions/{version}/unretire",
        Scope::Admin,
        Resource::Shared,
    ),
    (
        "POST /v1/models/{name}/versions/{version}/prefetch",
        Scope::Operate,
        Resource::Shared,
    ),
    (
        "POST /v1/queues/{model}/pause",
        Scope::Operate,
        Resource::Shared,
    ),
    (
        "POST /v1/queues/{model}/resume",
        Scope::Operate,
        Resource::Shared,
    ),
    ("GET /v1/workers", Scope::Operate, Resource::None),
    (
        "POST /v1/workers/{id}/drain",
        Scope::Operate,
        Resource::Shared,
    ),
    ("GET /v1/stats", Scope::Operate, Resource::None),
    ("GET /v1/usage", Scope::Read, Resource::None),
    ("POST /v1/api_keys", Scope::Admin, Resource::None),
    ("GET /v1/api_keys", Scope::Admin, Resource::None),
    ("DELETE /v1/api_keys/{id}", Scope::Admin, Resource::Shared),
];

/// The kind of resource that the braces of a path stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    /// The path has no braces.
    None,
    /// A resource without one owner: a model, a worker, a key that an admin gives to any owner.
    Shared,
    /// A job. This kind and the next ones belong to one owner.
    Job,
    Batch,
    Image,
    Endpoint,
    Delivery,
}

impl Resource {
    /// Creates a resource that the client owns, and returns its id; `None` for a kind without an owner.
    async fn create(self, client: &Client) -> Option<String> {
        let photo = fixtures::photo("cat.jpg");
        let made = match self {
            Self::None | Self::Shared => return None,
            Self::Job => client.submit("", photo).await,
            Self::Batch => {
                let line = json!({"image": {"data": STANDARD.encode(photo)}}).to_string();
                let request = client.request(Method::POST, "/v1/batches");
                let request = request.header("content-type", "application/x-ndjson");
                send(request.body(line)).await.json()
            }
            Self::Image => {
                let request = client.request(Method::POST, "/v1/images").body(photo);
                let image = send(request).await.json();
                return image["image"].as_str().map(str::to_owned);
            }
            Self::Endpoint => {
                let asked = json!({"url": "https://hooks.example/", "events": ["job.failed"]});
                client
                    .post_json("/v1/webhook_endpoints", &asked)
                    .await
                    .json()
            }
            Self::Delivery => {
                let job = client
                    .submit("?webhook=https://hooks.example/", photo)
                    .await;
                client.cancel(job["id"].as_str().unwrap()).await;
                client.get("/v1/webhook_deliveries").await.json()["data"][0].clone()
            }
        };
        Some(
            made["id"]
                .as_str()
                .unwrap_or_else(|| panic!("{made}"))
                .to_owned(),
        )
    }
}

/// The routes of the OpenAPI document: method, path and operation.
pub(super) async fn documented_routes(stack: &Stack) -> Vec<(Method, String, Value)> {
    let document = stack.client_with(None).get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap().clone();
    let routes = paths.into_iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().clone();
        methods.into_iter().filter_map(move |(method, operation)| {
            let method = method.to_uppercase().parse().ok()?;
            operation["responses"]
                .is_object()
                .then(|| (method, path.clone(), operation))
        })
    });
    routes.collect()
}

fn rule(method: &Method, path: &str) -> (Scope, Resource) {
    let route = format!("{method} {path}");
    let rule = ROUTES.iter().find(|(known, ..)| *known == route);
    let (_, scope, resource) =
        rule.unwrap_or_else(|| panic!("{route} is not in ROUTES: add the scope that it needs"));
    assert_eq!(path.contains('{'), *resource != Resource::None, "{route}");
    (*scope, *resource)
}

/// Fills the braces of a path with ids that do not exist.
pub(super) fn with_unknown_ids(path: &str) -> String {
    let ids = path
        .replace(
            "/v1/jobs/{id}",
            "/v1/jobs/job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7",
        )
        .replace("{id}", "0")
        .replace("{version}", "1");
    let mut filled = String::new();
    for part in ids.split_inclusive('/') {
        let is_open = part.starts_with('{');
        filled.push_str(if is_open { "nothing" } else { part });
        if is_open && part.ends_with('/') {
            filled.push('/');
        }
    }
    filled
}

async fn ask(client: &Client, method: &Method, path: &str, operation: &Value) -> Answer {
    let request = client.request(method.clone(), path);
    if operation["requestBody"].is_object() {
        send(request.json(&json!({"version": 1}))).await
    } else {
        send(request).await
    }
}

#[tokio::test]
async fn every_route_of_the_table_is_documented() {
    let stack = Stack::bare(&[]).await;
    let routes = documented_routes(&stack).await;
    let known: Vec<_> = routes
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    for (route, ..) in ROUTES {
        assert!(known.iter().any(|known| known == route), "{route}");
    }
}

#[tokio::test]
async fn every_route_answers_401_without_a_key() {
    let stack = Stack::bare(&[]).await;
    for (method, path, operation) in documented_routes(&stack).await {
        rule(&method, &path);
        for key in [None, Some("dk_000000000000_nonsense")] {
            let client = stack.client_with(key);
            let answer = ask(&client, &method, &with_unknown_ids(&path), &operation).await;
            answer.problem(401, "unauthorized");
            assert_eq!(answer.header("ratelimit"), None, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_route_accepts_exactly_one_scope() {
    let stack = Stack::bare(&[]).await;
    let mut clients = Vec::new();
    for scope in Scope::ALL {
        clients.push((scope, stack.client_of(given::OWNER, &[scope]).await));
    }
    for (method, path, operation) in documented_routes(&stack).await {
        let (needed, _) = rule(&method, &path);
        for (scope, client) in &clients {
            let answer = ask(client, &method, &with_unknown_ids(&path), &operation).await;
            if *scope == needed {
                let is_accepted = !matches!(answer.status, 401 | 403 | 405 | 429 | 500..);
                assert!(is_accepted, "{method} {path}: {}", answer.text());
            } else {
                answer.problem(403, "forbidden");
            }
        }
    }
}

#[tokio::test]
async fn every_route_answers_404_for_a_resource_of_another_owner() {
    let stack = Stack::without_workers().await;
    let bob = stack.client_of("bob", &Scope::ALL).await;
    let mut asked = 0;
    for (method, path, operation) in documented_routes(&stack).await {
        let resource = rule(&method, &path).1;
        let Some(id) = resource.create(&stack.client).await else {
            continue;
        };
        let path = path.replace("{id}", &id).replace("{sha256}", &id);
        let refused = ask(&bob, &method, &path, &operation).await;
        let problem = refused.problem(404, "not_found");
        assert!(!problem["detail"].as_str().unwrap().contains(&id));
        if resource == Resource::Job {
            assert_eq!(stack.client.job(&id).await["status"], "queued", "{path}");
        }
        let own = ask(&stack.client, &method, &path, &operation).await;
        assert_ne!(own.status, 404, "{method} {path}: {}", own.text());
        asked += 1;
    }
    assert!(asked >= 16, "{asked}");
}

#[tokio::test]
async fn every_response_to_a_key_shows_how_many_requests_are_left() {
    let stack = Stack::bare(&[]).await;
    let mut fewest = u64::MAX;
    let requests_left = |answer: Answer, route: &str| {
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"requests\";q=10000;w=2"),
            "{route}"
        );
        let limit = answer
            .header("ratelimit")
            .unwrap_or_else(|| panic!("{route}"));
        let mut parts = limit.strip_prefix("\"requests\";r=").unwrap().split(";t=");
        parts.next().unwrap().parse::<u64>().unwrap()
    };
    let reader = stack.client_of(given::OWNER, &[Scope::Read]).await;
    for (method, path, operation) in documented_routes(&stack).await {
        let answer = ask(&reader, &method, &with_unknown_ids(&path), &operation).await;
        let remaining = requests_left(answer, &format!("{method} {path}"));
        assert!(remaining <= 10_000);
        fewest = fewest.min(remaining);
    }
    assert!(fewest < 10_000, "requests are counted: {fewest}");
    for undocumented in ["/v1/nothing", "/nothing", "/console"] {
        requests_left(reader.get(undocumented).await, undocumented);
    }
    let no_such_method = send(reader.request(Method::PUT, "/v1/jobs")).await;
    requests_left(no_such_method, "PUT /v1/jobs");
}
