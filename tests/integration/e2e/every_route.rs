//! Rules that hold on every route of the OpenAPI document: one table says what each of them needs, and a route that is not
//! in it fails the test.

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::keys::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, client::send, fixtures, given};

/// Every route, the scope that it needs, and whose the thing is that its path names.
const ROUTES: [(&str, Scope, Names); 42] = [
    ("POST /v1/jobs", Scope::Submit, Names::Nothing),
    ("GET /v1/jobs", Scope::Read, Names::Nothing),
    ("GET /v1/jobs/{id}", Scope::Read, Names::AJob),
    ("DELETE /v1/jobs/{id}", Scope::Submit, Names::AJob),
    ("GET /v1/jobs/{id}/result", Scope::Read, Names::AJob),
    ("POST /v1/jobs/{id}/cancel", Scope::Submit, Names::AJob),
    ("POST /v1/jobs/{id}/retry", Scope::Submit, Names::AJob),
    ("GET /v1/jobs/{id}/explain", Scope::Read, Names::AJob),
    ("GET /v1/jobs/{id}/events", Scope::Read, Names::AJob),
    ("GET /v1/events", Scope::Read, Names::Nothing),
    ("POST /v1/batches", Scope::Submit, Names::Nothing),
    ("GET /v1/batches", Scope::Read, Names::Nothing),
    ("GET /v1/batches/{id}", Scope::Read, Names::ABatch),
    ("GET /v1/batches/{id}/results", Scope::Read, Names::ABatch),
    ("POST /v1/batches/{id}/cancel", Scope::Submit, Names::ABatch),
    (
        "POST /v1/batches/{id}/retry_failed",
        Scope::Submit,
        Names::ABatch,
    ),
    ("POST /v1/uploads", Scope::Submit, Names::Nothing),
    ("POST /v1/images", Scope::Submit, Names::Nothing),
    ("GET /v1/images/{sha256}", Scope::Read, Names::AnImage),
    (
        "GET /v1/images/{sha256}/content",
        Scope::Read,
        Names::AnImage,
    ),
    ("DELETE /v1/images/{sha256}", Scope::Submit, Names::AnImage),
    ("POST /v1/webhook_endpoints", Scope::Submit, Names::Nothing),
    ("GET /v1/webhook_endpoints", Scope::Read, Names::Nothing),
    (
        "DELETE /v1/webhook_endpoints/{id}",
        Scope::Submit,
        Names::AnEndpoint,
    ),
    ("GET /v1/webhook_secret", Scope::Submit, Names::Nothing),
    (
        "POST /v1/webhook_secret/rotate",
        Scope::Submit,
        Names::Nothing,
    ),
    ("GET /v1/webhook_deliveries", Scope::Read, Names::Nothing),
    (
        "POST /v1/webhook_deliveries/{id}/redeliver",
        Scope::Submit,
        Names::ADelivery,
    ),
    ("GET /v1/models", Scope::Read, Names::Nothing),
    ("GET /v1/models/{name}", Scope::Read, Names::Everyones),
    (
        "GET /v1/models/{name}/versions",
        Scope::Read,
        Names::Everyones,
    ),
    (
        "PUT /v1/models/{name}/aliases/{alias}",
        Scope::Admin,
        Names::Everyones,
    ),
    (
        "POST /v1/models/{name}/versions/{version}/retire",
        Scope::Admin,
        Names::Everyones,
    ),
    (
        "POST /v1/queues/{model}/pause",
        Scope::Operate,
        Names::Everyones,
    ),
    (
        "POST /v1/queues/{model}/resume",
        Scope::Operate,
        Names::Everyones,
    ),
    ("GET /v1/workers", Scope::Operate, Names::Nothing),
    (
        "POST /v1/workers/{id}/drain",
        Scope::Operate,
        Names::Everyones,
    ),
    ("GET /v1/stats", Scope::Operate, Names::Nothing),
    ("GET /v1/usage", Scope::Read, Names::Nothing),
    ("POST /v1/api_keys", Scope::Admin, Names::Nothing),
    ("GET /v1/api_keys", Scope::Admin, Names::Nothing),
    ("DELETE /v1/api_keys/{id}", Scope::Admin, Names::Everyones),
];

/// What the braces of a path stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// It has none.
    Nothing,
    /// What belongs to no owner: a model, a worker; keys, which admins give to any owner.
    Everyones,
    /// One owner's job.
    AJob,
    ABatch,
    AnImage,
    AnEndpoint,
    ADelivery,
}

impl Names {
    /// One that the client owns: what stands between the braces.
    async fn one_of(self, client: &Client) -> Option<String> {
        let photo = fixtures::photo("cat.jpg");
        let made = match self {
            Self::Nothing | Self::Everyones => return None,
            Self::AJob => client.submit("", photo).await,
            Self::ABatch => {
                let line = json!({"image": {"data": STANDARD.encode(photo)}}).to_string();
                let request = client.request(Method::POST, "/v1/batches");
                let request = request.header("content-type", "application/x-ndjson");
                send(request.body(line)).await.json()
            }
            Self::AnImage => {
                let request = client.request(Method::POST, "/v1/images").body(photo);
                let image = send(request).await.json();
                return image["image"].as_str().map(str::to_owned);
            }
            Self::AnEndpoint => {
                let asked = json!({"url": "https://hooks.example/", "events": ["job.failed"]});
                client
                    .post_json("/v1/webhook_endpoints", &asked)
                    .await
                    .json()
            }
            Self::ADelivery => {
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

const ALL: [Scope; 4] = [Scope::Submit, Scope::Read, Scope::Operate, Scope::Admin];

/// The routes of the document: method, path, the operation.
pub(super) async fn documented(stack: &Stack) -> Vec<(Method, String, Value)> {
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

fn rule(method: &Method, path: &str) -> (Scope, Names) {
    let route = format!("{method} {path}");
    let rule = ROUTES.iter().find(|(known, ..)| *known == route);
    let (_, scope, names) =
        rule.unwrap_or_else(|| panic!("{route} is not in ROUTES: say what it needs"));
    assert_eq!(path.contains('{'), *names != Names::Nothing, "{route}");
    (*scope, *names)
}

/// A path whose braces name what nobody has.
pub(super) fn of_nothing(path: &str) -> String {
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
    let routes = documented(&stack).await;
    let known: Vec<_> = routes
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    for (route, ..) in ROUTES {
        assert!(known.iter().any(|known| known == route), "{route}");
    }
}

#[tokio::test]
async fn without_a_key_every_route_is_unauthorized() {
    let stack = Stack::bare(&[]).await;
    for (method, path, operation) in documented(&stack).await {
        rule(&method, &path);
        for key in [None, Some("dk_000000000000_nonsense")] {
            let client = stack.client_with(key);
            let answer = ask(&client, &method, &of_nothing(&path), &operation).await;
            answer.problem(401, "unauthorized");
            assert_eq!(answer.header("ratelimit"), None, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_route_needs_one_scope_and_no_other_will_do() {
    let stack = Stack::bare(&[]).await;
    let mut clients = Vec::new();
    for scope in ALL {
        clients.push((scope, stack.client_of(given::OWNER, &[scope]).await));
    }
    for (method, path, operation) in documented(&stack).await {
        let (needed, _) = rule(&method, &path);
        for (scope, client) in &clients {
            let answer = ask(client, &method, &of_nothing(&path), &operation).await;
            if *scope == needed {
                let let_in = !matches!(answer.status, 401 | 403 | 405 | 429 | 500..);
                assert!(let_in, "{method} {path}: {}", answer.text());
            } else {
                answer.problem(403, "forbidden");
            }
        }
    }
}

#[tokio::test]
async fn what_belongs_to_another_owner_answers_404_on_every_route() {
    let stack = Stack::without_workers().await;
    let bob = stack.client_of("bob", &ALL).await;
    let mut asked = 0;
    for (method, path, operation) in documented(&stack).await {
        let names = rule(&method, &path).1;
        let Some(id) = names.one_of(&stack.client).await else {
            continue;
        };
        let path = path.replace("{id}", &id).replace("{sha256}", &id);
        let refused = ask(&bob, &method, &path, &operation).await;
        let problem = refused.problem(404, "not_found");
        assert!(!problem["detail"].as_str().unwrap().contains(&id));
        if names == Names::AJob {
            assert_eq!(stack.client.job(&id).await["status"], "queued", "{path}");
        }
        let own = ask(&stack.client, &method, &path, &operation).await;
        assert_ne!(own.status, 404, "{method} {path}: {}", own.text());
        asked += 1;
    }
    assert!(asked >= 16, "{asked}");
}

#[tokio::test]
async fn every_answer_to_a_key_tells_what_is_left_of_its_rate() {
    let stack = Stack::bare(&[]).await;
    let mut left = u64::MAX;
    let tell = |answer: Answer, route: &str| {
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
    for (method, path, operation) in documented(&stack).await {
        let answer = ask(&reader, &method, &of_nothing(&path), &operation).await;
        let remaining = tell(answer, &format!("{method} {path}"));
        assert!(remaining <= 10_000);
        left = left.min(remaining);
    }
    assert!(left < 10_000, "requests are counted: {left}");
    for undocumented in ["/v1/nothing", "/nothing", "/console"] {
        tell(reader.get(undocumented).await, undocumented);
    }
    let no_such_method = send(reader.request(Method::PUT, "/v1/jobs")).await;
    tell(no_such_method, "PUT /v1/jobs");
}
