//! The OpenAPI document, the pages `/docs` and `/problems`, the health checks, and the list of models.

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::ProblemCode;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Stack, client::send, fixtures, openapi::mismatches};

async fn get_openapi(stack: &Stack) -> Value {
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
    let batch = create_ended_batch(&stack).await;
    let document = get_openapi(&stack).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(operation) = item.get("get") else {
            continue;
        };
        let path = path
            .replace("/v1/batches/{id}", &format!("/v1/batches/{batch}"))
            .replace("{id}", job["id"].as_str().unwrap())
            .replace("{name}", fixtures::CLASSIFIER)
            .replace("{sha256}", job["input"]["image"].as_str().unwrap());
        assert!(!path.contains('{'), "the test knows no value for {path}");
        let answer = stack.client.get(&path).await;
        assert_documented(&document, operation, &answer, &path);
        assert_documented(
            &document,
            operation,
            &stack.client_with(Some("dk_no_no")).get(&path).await,
            &path,
        );
        asked += 1;
    }
    assert!(asked >= 5, "{asked}");
}

/// Creates a batch that has ended: its only line was refused.
async fn create_ended_batch(stack: &Stack) -> String {
    let image = STANDARD.encode(fixtures::photo("cat.jpg"));
    let line = json!({"image": {"data": image}, "model": "nothing"}).to_string();
    let request = stack.client.request(Method::POST, "/v1/batches");
    let request = request.header("content-type", "application/x-ndjson");
    let batch = send(request.body(line)).await.json();
    batch["id"].as_str().unwrap().to_owned()
}

fn assert_documented(document: &Value, operation: &Value, answer: &Answer, path: &str) {
    let documented = &operation["responses"][answer.status.to_string()];
    assert!(
        documented.is_object(),
        "{path} answers {}: {}",
        answer.status,
        answer.text()
    );
    let Some(contents) = documented["content"].as_object() else {
        return;
    };
    let content_type = answer.header("content-type").unwrap_or_default();
    let content = contents
        .iter()
        .find(|(name, _)| content_type.starts_with(*name));
    let (_, content) = content.unwrap_or_else(|| panic!("{path} answers {content_type}"));
    if content_type.contains("json") {
        let text = answer.text();
        // The schema of an NDJSON body describes one line. Any other JSON body is one line.
        for line in text.lines() {
            let value = serde_json::from_str(line).unwrap();
            let faults = mismatches(document, &content["schema"], &value);
            assert!(faults.is_empty(), "{path}: {faults:#?} in {value:#}");
        }
    }
}

#[tokio::test]
async fn every_path_of_the_contract_is_in_the_openapi_document() {
    let stack = Stack::without_workers().await;
    let document = get_openapi(&stack).await;
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
        ("/v1/models/{name}/versions", "post"),
        ("/v1/models/{name}/aliases/{alias}", "put"),
        ("/v1/models/{name}/aliases/{alias}", "delete"),
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

/// A generated client sends only fields that the schema contains.
#[tokio::test]
async fn a_batch_line_is_documented_as_a_job_with_a_custom_id() {
    let stack = Stack::without_workers().await;
    let document = get_openapi(&stack).await;
    let body = |path: &str, kind: &str| {
        document["paths"][path]["post"]["requestBody"]["content"][kind]["schema"].clone()
    };
    let of_lines = body("/v1/batches", "application/x-ndjson");
    let of_jobs = body("/v1/jobs", "application/json");
    let shape = |schema: &Value| {
        let place = schema["$ref"].as_str().unwrap().trim_start_matches('#');
        document.pointer(place).unwrap().clone()
    };
    let (line, job) = (shape(&of_lines), shape(&of_jobs));
    assert_eq!(line["additionalProperties"], false);
    let mut fields = line["properties"].as_object().unwrap().clone();
    assert!(fields.remove("custom_id").is_some());
    assert_eq!(&fields, job["properties"].as_object().unwrap());

    let image = STANDARD.encode(fixtures::photo("cat.jpg"));
    let sent = json!({"custom_id": "a", "image": {"data": image}, "priority": 2});
    assert_eq!(mismatches(&document, &of_lines, &sent), [""; 0]);
    let as_a_job = mismatches(&document, &of_jobs, &sent);
    assert_eq!(as_a_job, ["/custom_id is not documented"]);
    let request = stack.client.request(Method::POST, "/v1/batches");
    let request = request.header("content-type", "application/x-ndjson");
    let batch = send(request.body(sent.to_string())).await;
    assert_eq!(batch.status, 202, "{}", batch.text());
    assert_eq!(batch.json()["counts"]["queued"], 1);
}

#[tokio::test]
async fn every_query_parameter_of_jobs_is_documented() {
    let stack = Stack::bare(&[]).await;
    let document = get_openapi(&stack).await;
    let raw_form = "model priority run_at deadline max_attempts retain_for webhook metadata.KEY";
    let filters =
        "status model task batch_id metadata.KEY created_after created_before include limit cursor";
    for (method, names) in [("post", raw_form), ("get", filters)] {
        let parameters = &document["paths"]["/v1/jobs"][method]["parameters"];
        let parameters = parameters.as_array().unwrap();
        for name in names.split(' ') {
            let known = parameters
                .iter()
                .any(|known| known["name"] == name && known["in"] == "query");
            assert!(known, "{method} /v1/jobs?{name}");
        }
    }
}

/// The first text in a page that would load something from another server.
pub(super) fn find_external_load(page: &str) -> Option<&'static str> {
    let words = [
        "src=\"http",
        "src='http",
        "src=http",
        "src=\"//",
        "<script src",
        "@import",
        "url(http",
        "<link ",
    ];
    words.into_iter().find(|words| page.contains(words))
}

#[tokio::test]
async fn the_pages_need_no_key_and_load_nothing_from_other_servers() {
    let stack = Stack::without_workers().await;
    let anonymous = stack.client_with(None);
    let mut pages = vec!["/docs".to_owned(), "/problems".into()];
    pages.extend(ProblemCode::ALL.map(|code| format!("/problems/{}", code.as_str())));
    for path in pages {
        let page = anonymous.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        assert_eq!(find_external_load(&page.text()), None, "{path}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
    }
    let docs = anonymous.get("/docs").await.text();
    assert!(docs.contains("href=/console"), "a link to the console");
    for path in get_openapi(&stack).await["paths"]
        .as_object()
        .unwrap()
        .keys()
    {
        assert!(docs.contains(path.as_str()), "{path} is not on the page");
    }
}

#[tokio::test]
async fn health_checks_need_no_key() {
    let stack = Stack::without_workers().await;
    let anonymous = stack.client_with(None);
    for path in ["/livez", "/readyz"] {
        assert_eq!(anonymous.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn models_show_their_parameters_and_versions() {
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
