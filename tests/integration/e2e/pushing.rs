//! `POST /v1/models/{name}/versions`: models that are pushed without credentials of the database and the bucket.

mod refusing;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use jobs::{Sha256Digest, keys::Scope, models::object_key, object_store::Body};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, client::send, fixtures, given};

const MODEL: &str = "bright-box";

/// A model to push: the manifest and the bytes of its files.
struct Model {
    manifest: Value,
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl Model {
    fn new() -> Self {
        let read = |name| fixtures::read(&format!("tasks/{MODEL}/{name}"));
        Self {
            manifest: fixtures::json(&format!("tasks/{MODEL}/model.json")),
            files: ["model.pt", "labels.txt"]
                .map(|name| (name, read(name)))
                .into(),
        }
    }

    /// Another version of the model.
    fn with_source(source: &str) -> Self {
        let mut model = Self::new();
        model.manifest["source"] = source.into();
        model
    }

    fn request(&self) -> Value {
        let files = self.files.iter().map(|(name, bytes)| {
            let file = json!({"sha256": Sha256Digest::of(bytes), "bytes": bytes.len()});
            ((*name).to_owned(), file)
        });
        let files: serde_json::Map<_, _> = files.collect();
        json!({"manifest": self.manifest, "files": files, "trial": false})
    }

    fn key(&self, file: &str) -> String {
        object_key(Sha256Digest::of(&self.files[file]))
    }

    /// Pushes the model: asks, uploads what is missing, asks again.
    async fn push(&self, client: &Client, alias: Option<&str>) -> Value {
        let mut request = self.request();
        if let Some(alias) = alias {
            request["alias"] = alias.into();
        }
        let mut answer = post(client, &request).await;
        if answer.status == 202 {
            for upload in answer.json()["uploads"].as_array().unwrap() {
                let bytes = &self.files[upload["file"].as_str().unwrap()];
                assert_eq!(put(upload, bytes.clone()).await, 200);
            }
            answer = post(client, &request).await;
        }
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
        let pushed = answer.json();
        assert_eq!(pushed["new"], answer.status == 201, "{pushed:#}");
        pushed
    }
}

async fn post(client: &Client, request: &Value) -> Answer {
    let path = format!("/v1/models/{MODEL}/versions");
    client.post_json(&path, request).await
}

/// Uploads a file as a client without an S3 library and without a key does.
async fn put(upload: &Value, bytes: Vec<u8>) -> u16 {
    assert_eq!(upload["method"], "PUT");
    let headers: BTreeMap<String, String> =
        serde_json::from_value(upload["headers"].clone()).unwrap();
    let mut request = reqwest::Client::new().put(upload["url"].as_str().unwrap());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.body(bytes).send().await.unwrap();
    answer.status().as_u16()
}

fn missing_files(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 202, "{}", answer.text());
    let body = answer.json();
    assert_eq!(
        (&body["version"], &body["new"]),
        (&json!(null), &json!(false))
    );
    let uploads = body["uploads"].as_array().unwrap().iter();
    uploads
        .map(|upload| upload["file"].as_str().unwrap().to_owned())
        .collect()
}

async fn versions(stack: &Stack) -> i64 {
    sqlx::query_scalar("select count(*) from ops.models")
        .fetch_one(&*stack.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_push_asks_for_the_missing_files_and_registers_the_version_once_they_are_there() {
    let stack = Stack::bare(&[]).await;
    let admin = stack.client_of(given::OWNER, &[Scope::Admin]).await;
    let model = Model::new();
    let first = post(&admin, &model.request()).await;
    assert_eq!(missing_files(&first), ["labels.txt", "model.pt"]);
    assert_eq!(versions(&stack).await, 0, "nothing is registered yet");

    let upload = &first.json()["uploads"][0];
    assert_eq!(put(upload, model.files["labels.txt"].clone()).await, 200);
    let second = post(&admin, &model.request()).await;
    assert_eq!(missing_files(&second), ["model.pt"]);
    let upload = &second.json()["uploads"][0];
    assert_eq!(put(upload, model.files["model.pt"].clone()).await, 200);
    // The URL may be used again: it can only store these bytes.
    assert_eq!(put(upload, model.files["model.pt"].clone()).await, 200);

    let third = post(&admin, &model.request()).await;
    assert_eq!(third.status, 201, "{}", third.text());
    let pushed = third.json();
    assert_eq!(
        json!([
            pushed["object"],
            pushed["model"],
            pushed["version"],
            pushed["new"],
            pushed["aliases"],
            pushed["uploads"]
        ]),
        json!(["model_push", MODEL, 1, true, {"default": 1}, []])
    );
    let moved = json!([{"alias": "default", "from": null, "to": 1}]);
    assert_eq!(pushed["moved"], moved);
    let folder = fixtures::folder().join("tasks").join(MODEL);
    let folder = jobs::models::ModelFolder::read(&folder).unwrap();
    assert_eq!(
        pushed["digest"],
        folder.digest.to_string(),
        "a folder and a request with equal content are one version"
    );
    let again = post(&admin, &model.request()).await;
    assert_eq!(again.status, 200, "{}", again.text());
    let again = again.json();
    assert_eq!(
        (&again["version"], &again["new"], &again["moved"]),
        (&json!(1), &json!(false), &json!([]))
    );
    assert_eq!(versions(&stack).await, 1);
}

#[tokio::test]
async fn a_model_pushed_through_rest_runs() {
    let stack = Stack::bare(&[]).await;
    Model::new().push(&stack.client, None).await;
    let _worker = stack.worker("w", &[]).await;
    let photo = fixtures::photo("cat.jpg");
    let job = stack
        .client
        .predicted(&format!("?model={MODEL}"), photo)
        .await;
    assert!(job["result"]["boxes"].is_array(), "{job:#}");
}

#[tokio::test]
async fn pushes_at_the_same_time_make_one_version() {
    let stack = Stack::bare(&[]).await;
    let (one, two) = (Model::with_source("one"), Model::with_source("two"));
    for upload in post(&stack.client, &one.request()).await.json()["uploads"]
        .as_array()
        .unwrap()
    {
        let bytes = &one.files[upload["file"].as_str().unwrap()];
        assert_eq!(put(upload, bytes.clone()).await, 200);
    }
    // The files of both versions are equal.
    let requests: Vec<_> = (0..4)
        .flat_map(|_| [one.request(), two.request()])
        .collect();
    let pushes = requests.iter().map(|request| post(&stack.client, request));
    let answers = join_all(pushes).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 201, 201]);
    let mut numbers: Vec<_> = answers
        .iter()
        .map(|answer| answer.json()["version"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 1, 1, 1, 2, 2, 2, 2]);
    let defaults: Vec<String> =
        sqlx::query_scalar("select distinct name from ops.models where is_default")
            .fetch_all(&*stack.db)
            .await
            .unwrap();
    assert_eq!(defaults, [MODEL]);
}

#[tokio::test]
async fn first_models_that_are_pushed_at_the_same_time_give_one_default_model() {
    let stack = Stack::bare(&[]).await;
    let model = Model::new();
    for bytes in model.files.values() {
        let sha256 = Sha256Digest::of(bytes);
        let (key, body) = (object_key(sha256), Bytes::from(bytes.clone()));
        let stored = stack
            .store
            .put(&key, Body::Memory(&body), sha256, "x/y")
            .await;
        stored.unwrap();
    }
    let requests = (0..6).map(|number| {
        let mut request = model.request();
        request["manifest"]["name"] = format!("model-{number}").into();
        let path = format!("/v1/models/model-{number}/versions");
        let client = &stack.client;
        async move { client.post_json(&path, &request).await }
    });
    for answer in join_all(requests).await {
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let defaults: i64 = sqlx::query_scalar("select count(*) from ops.models where is_default")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(defaults, 1);
}

#[tokio::test]
async fn a_push_moves_the_alias_that_it_names_and_no_other() {
    let stack = Stack::bare(&[]).await;
    let (one, two) = (Model::with_source("one"), Model::with_source("two"));
    one.push(&stack.client, Some("stable")).await;
    let pushed = two.push(&stack.client, Some("stable")).await;
    assert_eq!(pushed["aliases"], json!({"default": 1, "stable": 2}));
    let moved = json!([{"alias": "stable", "from": 1, "to": 2}]);
    assert_eq!(pushed["moved"], moved);
    let back = one.push(&stack.client, Some("stable")).await;
    assert_eq!(
        (&back["new"], &back["aliases"]),
        (&json!(false), &json!({"default": 1, "stable": 1}))
    );
}

#[tokio::test]
async fn a_push_cannot_point_an_alias_at_a_retired_version() {
    let stack = Stack::bare(&[]).await;
    let (one, two) = (Model::with_source("one"), Model::with_source("two"));
    one.push(&stack.client, None).await;
    two.push(&stack.client, None).await;
    let act = async |act: &str| {
        let path = format!("/v1/models/{MODEL}/versions/2/{act}");
        send(stack.client.request(Method::POST, &path)).await.status
    };
    assert_eq!(act("retire").await, 204);
    let mut request = two.request();
    request["alias"] = json!("stable");
    let refused = post(&stack.client, &request).await;
    refused.problem_at(422, "invalid_params", "/alias");
    let path = format!("/v1/models/{MODEL}/versions");
    let listed = stack.client.get(&path).await.json();
    assert_eq!(listed["data"][0]["aliases"], json!([]));
    assert_eq!(listed["data"][0]["retired"], true);
    let pushed = two.push(&stack.client, None).await;
    assert_eq!(
        pushed["version"], 2,
        "without an alias the push is harmless"
    );
    assert_eq!(act("unretire").await, 204);
    let pushed = two.push(&stack.client, Some("stable")).await;
    assert_eq!(pushed["aliases"], json!({"default": 1, "stable": 2}));
}

#[tokio::test]
async fn the_audit_names_who_pushed_what() {
    let stack = Stack::bare(&[]).await;
    let pushed = Model::new().push(&stack.client, Some("stable")).await;
    let folder = fixtures::folder().join("tasks").join(MODEL);
    let folder = jobs::models::ModelFolder::read(&folder).unwrap();
    let direct = jobs::models::push(&stack.db, &stack.store, &folder, None, false).await;
    assert!(!direct.unwrap().is_new);
    let entries: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', case when actor like 'api key % of alice' then 'alice' when actor = session_user then 'login' end,
                          verb, subject, arguments - 'digest', outcome)
         from ops.audit where verb <> 'create_key' order by at",
    )
    .fetch_all(&*stack.db)
    .await
    .unwrap();
    assert_eq!(
        entries,
        [
            r#"alice push_version bright-box {"alias": "stable", "version": 1} new"#,
            r#"alice set_alias bright-box {"alias": "default", "version": 1} set"#,
            r#"alice set_alias bright-box {"alias": "stable", "version": 1} set"#,
            r#"login push_version bright-box {"version": 1} unchanged"#,
        ]
    );
    let digests: Vec<String> = sqlx::query_scalar(
        "select distinct arguments ->> 'digest' from ops.audit where verb = 'push_version'",
    )
    .fetch_all(&*stack.db)
    .await
    .unwrap();
    assert_eq!(digests, [pushed["digest"].as_str().unwrap()]);
}
