//! What the API says about itself.

use jobs::ProblemCode;
use serde_json::Value;
use tests::{Answer, Stack, fixtures};

async fn openapi(stack: &Stack) -> Value {
    let answer = stack.client_with(None).get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/json")
    );
    answer.json()
}

#[tokio::test]
async fn every_get_of_the_openapi_document_answers_as_documented() {
    let stack = Stack::without_workers().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let document = openapi(&stack).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(operation) = item.get("get") else {
            continue;
        };
        let path = path
            .replace("{id}", job["id"].as_str().unwrap())
            .replace("{name}", fixtures::CLASSIFIER)
            .replace("{sha256}", job["input"]["image"].as_str().unwrap());
        assert!(!path.contains('{'), "the test knows no value for {path}");
        let answer = stack.client.get(&path).await;
        is_documented(operation, &answer, &path);
        is_documented(
            operation,
            &stack.client_with(Some("dk_no_no")).get(&path).await,
            &path,
        );
        asked += 1;
    }
    assert!(asked >= 5, "{asked}");
}

fn is_documented(operation: &Value, answer: &Answer, path: &str) {
    let documented = &operation["responses"][answer.status.to_string()];
    assert!(
        documented.is_object(),
        "{path} answers {}: {}",
        answer.status,
        answer.text()
    );
    let content = documented["content"].as_object();
    let content_type = answer.header("content-type").unwrap_or_default();
    let declared =
        content.is_none_or(|content| content.keys().any(|name| content_type.starts_with(name)));
    assert!(declared, "{path} answers {content_type}");
}

#[tokio::test]
async fn every_path_of_the_contract_is_in_the_openapi_document() {
    let stack = Stack::without_workers().await;
    let document = openapi(&stack).await;
    for (path, method) in [
        ("/v1/jobs", "post"),
        ("/v1/jobs", "get"),
        ("/v1/jobs/{id}", "get"),
        ("/v1/jobs/{id}/result", "get"),
        ("/v1/jobs/{id}/cancel", "post"),
        ("/v1/jobs/{id}/retry", "post"),
        ("/v1/jobs/{id}/explain", "get"),
        ("/v1/jobs/{id}", "delete"),
        ("/v1/batches", "post"),
        ("/v1/batches", "get"),
        ("/v1/batches/{id}", "get"),
        ("/v1/batches/{id}/results", "get"),
        ("/v1/batches/{id}/cancel", "post"),
        ("/v1/batches/{id}/retry_failed", "post"),
        ("/v1/uploads", "post"),
        ("/v1/images", "post"),
        ("/v1/images/{sha256}", "get"),
        ("/v1/images/{sha256}", "delete"),
        ("/v1/images/{sha256}/content", "get"),
        ("/v1/jobs/{id}/events", "get"),
        ("/v1/events", "get"),
        ("/v1/webhook_endpoints", "post"),
        ("/v1/webhook_endpoints", "get"),
        ("/v1/webhook_endpoints/{id}", "delete"),
        ("/v1/webhook_secret", "get"),
        ("/v1/webhook_secret/rotate", "post"),
        ("/v1/webhook_deliveries", "get"),
        ("/v1/webhook_deliveries/{id}/redeliver", "post"),
        ("/v1/queues/{model}/pause", "post"),
        ("/v1/queues/{model}/resume", "post"),
        ("/v1/workers", "get"),
        ("/v1/workers/{id}/drain", "post"),
        ("/v1/models", "get"),
        ("/v1/models/{name}", "get"),
        ("/v1/models/{name}/versions", "get"),
        ("/v1/models/{name}/aliases/{alias}", "put"),
        ("/v1/stats", "get"),
        ("/v1/usage", "get"),
        ("/v1/api_keys", "post"),
        ("/v1/api_keys", "get"),
        ("/v1/api_keys/{id}", "delete"),
    ] {
        assert!(
            document["paths"][path][method].is_object(),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn the_job_of_the_openapi_document_has_the_fields_of_a_job() {
    let stack = Stack::without_workers().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let document = openapi(&stack).await;
    let schema = document["components"]["schemas"]["JobBody"]["properties"]
        .as_object()
        .unwrap();
    for field in job.as_object().unwrap().keys() {
        assert!(schema.contains_key(field), "{field} is not documented");
    }
}

#[tokio::test]
async fn the_pages_need_no_key_and_nothing_from_elsewhere() {
    let stack = Stack::without_workers().await;
    let anyone = stack.client_with(None);
    let mut pages = vec!["/docs".to_owned(), "/problems".into()];
    pages.extend(ProblemCode::ALL.map(|code| format!("/problems/{}", code.as_str())));
    for path in pages {
        let page = anyone.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        let text = page.text();
        for outside in [
            "src=\"http",
            "src='http",
            "src=http",
            "src=\"//",
            "<script src",
            "@import",
            "url(http",
            "<link ",
        ] {
            assert!(!text.contains(outside), "{path} loads {outside}");
        }
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
    }
    let docs = anyone.get("/docs").await.text();
    for path in openapi(&stack).await["paths"].as_object().unwrap().keys() {
        assert!(docs.contains(path.as_str()), "{path} is not on the page");
    }
}

#[tokio::test]
async fn health_needs_no_key() {
    let stack = Stack::without_workers().await;
    let anyone = stack.client_with(None);
    for path in ["/livez", "/readyz"] {
        assert_eq!(anyone.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn models_tell_their_parameters_and_versions() {
    let stack = Stack::without_workers().await;
    let models = stack.client.get("/v1/models").await.json();
    let names: Vec<_> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, [fixtures::CLASSIFIER, fixtures::EMBEDDER]);
    let model = stack
        .client
        .get("/v1/models/efficientnet-lite0")
        .await
        .json();
    assert_eq!(model["task"], "classify");
    assert_eq!(model["is_default"], true);
    assert_eq!(model["default_version"], 1);
    assert_eq!(model["params"]["top_k"]["default"], 5);
    let versions = stack
        .client
        .get("/v1/models/efficientnet-lite0/versions")
        .await
        .json();
    assert_eq!(
        versions["data"][0]["aliases"],
        serde_json::json!(["default"])
    );
    assert!(
        versions["data"][0]["digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
}
