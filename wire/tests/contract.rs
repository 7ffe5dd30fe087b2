//! Each type reads its fixture, a JSON document of the contract, and writes the identical text.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use wire::{
    Alias, AliasRequest, ApiKey, ApiKeyRequest, Batch, BatchLine, BatchResult, BoundingBox,
    Classification, Detection, Embedding, EventPage, EventSubject, Explanation, Image, Job,
    JobRequest, JobStep, Label, List, MaskClass, Model, ModelPush, ModelPushRequest, ModelVersion,
    Page, Problem, ProblemCode, RawOutput, Regression, Segmentation, Stats, StoredResult,
    TaskResult, Upload, UploadRequest, UsageList, WebhookDelivery, WebhookEndpoint,
    WebhookEndpointRequest, WebhookMessage, WebhookSecret, Worker,
};

/// The text without the spaces that make it readable.
fn compact(text: &str) -> String {
    let (mut compact, mut in_string, mut is_escaped) = (String::new(), false, false);
    for c in text.chars() {
        if in_string || !c.is_whitespace() {
            compact.push(c);
        }
        match c {
            '"' if !is_escaped => in_string = !in_string,
            _ => {}
        }
        is_escaped = in_string && c == '\\' && !is_escaped;
    }
    compact
}

#[track_caller]
fn read<T: DeserializeOwned + Serialize>(text: &str) -> T {
    let value: T = serde_json::from_str(text).expect("the fixture fits the type");
    let written = serde_json::to_string(&value).expect("JSON");
    assert_eq!(written, compact(text));
    value
}

macro_rules! fixture {
    ($name:literal) => {
        read(include_str!(concat!("fixtures/", $name, ".json")))
    };
}

#[test]
fn jobs() {
    let job: Job = fixture!("job");
    let label = Label {
        label: Some("tabby".into()),
        index: 281,
        score: 0.83,
    };
    let labels = vec![label];
    assert_eq!(
        job.task_result(),
        Some(TaskResult::Classify(Classification { labels }))
    );
    assert!(job.status.is_terminal() && job.problem().is_none());
    let _: Job = fixture!("job_running");
    let failed: Job = fixture!("job_failed");
    let code = failed.problem().expect("a problem").code;
    assert_eq!(code.known(), Some(ProblemCode::ImageUndecodable));
    let _: Page<Job> = fixture!("job_page");
    let _: List<JobStep> = fixture!("job_steps");
}

#[test]
fn batches() {
    let _: Batch = fixture!("batch");
    let _: BatchResult = fixture!("batch_result_job");
    let _: BatchResult = fixture!("batch_result_refused");
}

#[test]
fn problems() {
    let _: Problem = fixture!("problem");
}

#[test]
fn events_are_told_apart_by_what_they_are_about() {
    let page: EventPage = fixture!("event_page");
    let [job, batch, deleted] = &page.data[..] else {
        panic!("three events");
    };
    assert!(matches!(job.data, EventSubject::Job(_)));
    assert!(matches!(batch.data, EventSubject::Batch(_)));
    assert!(matches!(deleted.data, EventSubject::Deleted(_)));
    assert_eq!(deleted.event_type.as_str(), "job.exploded");
    let _: WebhookMessage = fixture!("webhook_message");
}

#[test]
fn webhooks() {
    let endpoint: WebhookEndpoint = fixture!("webhook_endpoint");
    assert!(!format!("{endpoint:?}").contains("whsec_"));
    let _: WebhookEndpointRequest = fixture!("webhook_endpoint_request");
    let _: WebhookSecret = fixture!("webhook_secret");
    let _: Page<WebhookDelivery> = fixture!("webhook_delivery_page");
}

#[test]
fn models() {
    let models: List<Model> = fixture!("model_list");
    let (name, top_k) = models.data[0].param_specs().next().expect("a parameter");
    assert_eq!(
        (name, top_k.default, top_k.maximum),
        ("top_k", json!(5), Some(json!(1000)))
    );
    let _: List<ModelVersion> = fixture!("model_version_list");
    let _: Alias = fixture!("alias");
    let _: AliasRequest = fixture!("alias_request");
    let older: Alias = serde_json::from_value(
        json!({"object": "alias", "model": "lite", "alias": "stable", "version": 3}),
    )
    .expect("an answer of an older service");
    assert_eq!(older.previous_version, None);
    let _: ModelPush = fixture!("model_push");
    let missing: ModelPush = fixture!("model_push_uploads");
    assert_eq!(missing.uploads[0].put.method, "PUT");
    let request: ModelPushRequest = fixture!("model_push_request");
    let mut request = serde_json::to_value(request).expect("JSON");
    request.as_object_mut().expect("an object").remove("trial");
    let request: ModelPushRequest = serde_json::from_value(request).expect("reads");
    assert!(request.trial, "a push that says nothing wants a trial");
}

#[test]
fn operating() {
    let _: List<Worker> = fixture!("worker_list");
    let _: Stats = fixture!("stats");
    let _: Explanation = fixture!("explanation");
    let _: UsageList = fixture!("usage_list");
}

#[test]
fn keys() {
    let _: Page<ApiKey> = fixture!("api_key_page");
    let key: ApiKey = fixture!("api_key_created");
    assert!(!format!("{key:?}").contains("_secret"));
    let _: ApiKeyRequest = fixture!("api_key_request");
}

#[test]
fn images() {
    let _: Image = fixture!("image");
    let _: Upload = fixture!("upload");
    let stored: Upload = fixture!("upload_stored");
    assert_eq!(stored.put, None);
    let _: UploadRequest = fixture!("upload_request");
}

#[test]
fn submits() {
    // Clients need not write six digits.
    let text = include_str!("fixtures/job_request.json");
    let request: JobRequest = serde_json::from_str(text).expect("reads");
    assert_eq!(
        serde_json::to_string(&request).expect("JSON"),
        compact(text)
    );
    let line = BatchLine {
        custom_id: Some("a".into()),
        job: JobRequest {
            priority: 2,
            ..JobRequest::default()
        },
    };
    assert_eq!(
        serde_json::to_string(&line).expect("JSON"),
        r#"{"custom_id":"a","params":{},"priority":2,"metadata":{}}"#
    );
    assert!(serde_json::from_str::<JobRequest>(r#"{"modle": "lite"}"#).is_err());
}

#[test]
fn fields_that_are_newer_are_ignored() {
    let mut job: Value = serde_json::from_str(include_str!("fixtures/job.json")).expect("JSON");
    job["color"] = "red".into();
    job["input"]["color"] = "red".into();
    serde_json::from_value::<Job>(job).expect("reads");
}

#[test]
fn a_result_is_of_its_task() {
    let of = |result: Value| {
        let task: TaskResult = serde_json::from_value(result.clone()).expect("a result");
        assert_eq!(serde_json::to_value(&task).expect("JSON"), result);
        task
    };
    let found = BoundingBox {
        label: None,
        index: 1,
        score: 0.5,
        x: 1.0,
        y: 2.0,
        width: 3.0,
        height: 4.25,
    };
    assert_eq!(
        of(
            json!({"boxes": [{"label": null, "index": 1, "score": 0.5, "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.25}]})
        ),
        TaskResult::Detect(Detection { boxes: vec![found] })
    );
    let class = MaskClass {
        label: Some("sky".into()),
        index: 2,
        pixels: 9,
    };
    assert_eq!(
        of(
            json!({"mask_url": "/m", "width": 3, "height": 4, "classes": [{"label": "sky", "index": 2, "pixels": 9}]})
        ),
        TaskResult::Segment(Segmentation {
            mask_url: "/m".into(),
            width: 3,
            height: 4,
            classes: vec![class],
        })
    );
    assert_eq!(
        of(json!({"embedding": [0.5, -0.25], "dim": 2})),
        TaskResult::Embed(Embedding {
            embedding: vec![0.5, -0.25],
            dim: 2,
        })
    );
    assert_eq!(
        of(json!({"value": 36.6, "unit": "°C"})),
        TaskResult::Regress(Regression {
            value: 36.6,
            unit: Some("°C".into()),
        })
    );
    assert_eq!(
        of(json!({"shape": [1, 2], "data": [0.5, 2.0]})),
        TaskResult::Raw(RawOutput {
            shape: vec![1, 2],
            data: vec![0.5, 2.0],
        })
    );
    assert_eq!(
        of(json!({"url": "/r", "bytes": 70_000})),
        TaskResult::Stored(StoredResult {
            url: "/r".into(),
            bytes: 70_000,
        })
    );
    let newer = json!({"caption": "a cat"});
    assert_eq!(of(newer.clone()), TaskResult::Other(newer));
}
