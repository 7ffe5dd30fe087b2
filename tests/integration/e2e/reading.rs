//! Reading, listing and canceling jobs. The tests play the worker.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{TimeDelta, Utc};
use jobs::{JobId, Problem, ProblemCode};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, client::send, clock, fixtures, given};

async fn submit_job(stack: &Stack) -> (String, JobId) {
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap().to_owned();
    let job_id = id.parse().unwrap();
    (id, job_id)
}

async fn succeeded_job_id(stack: &Stack) -> String {
    let (id, _) = submit_job(stack).await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    tests::settling::complete(&stack.db, &[claimed.completion("cat")])
        .await
        .unwrap();
    id
}

async fn failed_job_id(stack: &Stack) -> String {
    let (id, _) = submit_job(stack).await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    let problem = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    tests::settling::fail(&stack.db, &[(claimed.lease(), problem)])
        .await
        .unwrap();
    id
}

#[tokio::test]
async fn an_unchanged_job_answers_304_and_a_changed_job_200() {
    let stack = Stack::without_workers().await;
    let (id, _) = submit_job(&stack).await;
    let ask = |tag: &str| {
        let request = stack.client.request(Method::GET, &format!("/v1/jobs/{id}"));
        send(request.header("If-None-Match", tag))
    };
    let first = stack.client.get(&format!("/v1/jobs/{id}")).await;
    let tag = first.header("etag").unwrap();
    assert!(!tag.starts_with("W/"), "the tag must be strong");
    for matching in [
        tag.to_owned(),
        "*".into(),
        format!("\"0\", {tag}"),
        format!("W/{tag}"),
    ] {
        let answer = ask(&matching).await;
        assert_eq!(answer.status, 304, "{matching}");
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("etag"), Some(tag));
    }
    given::claimed_by(&stack.db, "w").await;
    let changed = ask(tag).await;
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json()["status"], "running");
    assert_ne!(changed.header("etag"), Some(tag));
}

#[tokio::test]
async fn a_finished_job_shows_its_result_attempts_and_times() {
    let stack = Stack::without_workers().await;
    let id = succeeded_job_id(&stack).await;
    let answer = stack.client.get(&format!("/v1/jobs/{id}")).await;
    let job = answer.json();
    assert_eq!(job["status"], "succeeded");
    assert_eq!(job["result"], json!({"answer": "cat"}));
    assert_eq!(job["error"], Value::Null);
    assert_eq!(job["attempts"]["charged"], 1);
    assert_eq!(job["attempts"]["interruptions"], 0);
    let items = job["attempts"]["items"].as_array().unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["outcome"], "succeeded");
    assert_eq!(items[0]["worker"], "w");
    assert_eq!(job["timings_ms"]["infer"], 1.5);
    assert!(job["timings_ms"]["total"].as_f64().unwrap() > 0.0);
    assert_eq!(job["batch"], json!({"size": 1, "position": 0}));
    for time in [
        "created_at",
        "run_at",
        "started_at",
        "finished_at",
        "retain_until",
    ] {
        let time = job[time].as_str().unwrap_or_else(|| panic!("no {time}"));
        let micros = time.rsplit_once('.').unwrap().1;
        assert_eq!(micros.len(), 7, "microseconds and Z: {time}");
        assert!(micros.ends_with('Z'), "UTC: {time}");
    }
    assert!(
        answer
            .header("server-timing")
            .unwrap()
            .contains("infer;dur=1.5")
    );
    assert_eq!(answer.header("retry-after"), None);
}

#[tokio::test]
async fn the_result_route_answers_409_until_the_job_has_a_result() {
    let stack = Stack::without_workers().await;
    let (id, _) = submit_job(&stack).await;
    let path = format!("/v1/jobs/{id}/result");
    let early = stack.client.get(&path).await;
    let problem = early.problem(409, "job_not_finished");
    assert_eq!(problem["retryable"], true);
    assert!(early.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    let claimed = given::claimed_by(&stack.db, "w").await;
    stack
        .client
        .get(&path)
        .await
        .problem(409, "job_not_finished");
    tests::settling::complete(&stack.db, &[claimed.completion("cat")])
        .await
        .unwrap();
    let answer = stack.client.get(&path).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"answer": "cat"}));
}

#[tokio::test]
async fn the_result_route_says_why_a_job_failed() {
    let stack = Stack::without_workers().await;
    let failed = failed_job_id(&stack).await;
    let problem = stack
        .client
        .get(&format!("/v1/jobs/{failed}/result"))
        .await
        .problem(409, "job_failed");
    assert!(
        problem["detail"].as_str().unwrap().contains("cut short"),
        "{problem:#}"
    );
    let job = stack.client.job(&failed).await;
    assert_eq!(job["status"], "failed");
    assert_eq!(job["status_reason"], "image_undecodable");
    let error = &job["error"];
    assert_eq!(error["code"], "image_undecodable");
    assert_eq!(error["type"], "/problems/image_undecodable");
    assert_eq!(error["retryable"], false);
    let (canceled, _) = submit_job(&stack).await;
    stack.client.cancel(&canceled).await;
    stack
        .client
        .get(&format!("/v1/jobs/{canceled}/result"))
        .await
        .problem(409, "job_failed");
}

#[tokio::test]
async fn a_queued_job_is_canceled_at_once_and_cancel_can_be_repeated() {
    let stack = Stack::without_workers().await;
    let (id, _) = submit_job(&stack).await;
    for _ in 0..3 {
        let answer = stack.client.cancel(&id).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["status"], "canceled");
    }
    assert_eq!(stack.client.job(&id).await["status"], "canceled");
}

/// I13.
#[tokio::test]
async fn a_requested_cancel_of_a_running_job_wins_over_its_result() {
    let stack = Stack::without_workers().await;
    let (id, _) = submit_job(&stack).await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    for _ in 0..2 {
        let answer = stack.client.cancel(&id).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert_eq!(answer.json()["status"], "running");
        assert_eq!(answer.json()["cancel_requested"], true);
    }
    tests::settling::complete(&stack.db, &[claimed.completion("cat")])
        .await
        .unwrap();
    assert_eq!(stack.client.job(&id).await["status"], "canceled");
    assert_eq!(stack.client.cancel(&id).await.status, 200);
}

#[tokio::test]
async fn a_succeeded_or_failed_job_cannot_be_canceled() {
    let stack = Stack::without_workers().await;
    for id in [succeeded_job_id(&stack).await, failed_job_id(&stack).await] {
        let before = stack.client.job(&id).await;
        stack.client.cancel(&id).await.problem(409, "job_terminal");
        assert_eq!(stack.client.job(&id).await, before);
    }
}

#[tokio::test]
async fn pages_list_every_job_once_newest_first() {
    let stack = Stack::without_workers().await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(submit_job(&stack).await.0);
    }
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/jobs?limit=3&task=classify".to_owned());
    loop {
        let answer = stack.client.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 3);
        seen.extend(
            data.iter()
                .map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert_eq!(answer.header("link"), None);
            break;
        };
        // A new job shifts no page.
        submit_job(&stack).await;
        let link = answer.header("link").unwrap();
        let (target, relation) = link.split_once('>').unwrap();
        assert!(relation.contains("rel=\"next\""), "{link}");
        path = target.trim_start_matches('<').to_owned();
        assert!(
            path.contains(cursor) && path.contains("task=classify"),
            "{path}"
        );
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn filters_select_jobs_of_the_list() {
    let stack = Stack::without_workers().await;
    succeeded_job_id(&stack).await;
    let (canceled, _) = submit_job(&stack).await;
    stack.client.cancel(&canceled).await;
    let query = "?model=efficientnet-lite0-embed&metadata.listing=8841";
    stack.client.submit(query, fixtures::photo("cat.jpg")).await;
    let count = |filter: String| {
        let client = &stack.client;
        async move {
            let answer = client.get(&format!("/v1/jobs?{filter}")).await;
            assert_eq!(answer.status, 200, "{filter}: {}", answer.text());
            answer.json()["data"].as_array().unwrap().len()
        }
    };
    let time =
        |delta: TimeDelta| (Utc::now() + delta).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let (before, after) = (time(TimeDelta::hours(-1)), time(TimeDelta::hours(1)));
    for (filter, expected) in [
        (String::new(), 3),
        ("status=succeeded".into(), 1),
        ("status=canceled".into(), 1),
        ("status=cancelled".into(), 1),
        ("status=queued".into(), 1),
        ("status=failed".into(), 0),
        ("model=efficientnet-lite0-embed".into(), 1),
        ("model=efficientnet-lite0".into(), 2),
        ("task=embed".into(), 1),
        ("metadata.listing=8841".into(), 1),
        ("metadata.listing=8842".into(), 0),
        (format!("created_after={before}"), 3),
        (format!("created_after={after}"), 0),
        (format!("created_before={before}"), 0),
        (
            format!("created_before={after}&status=succeeded&task=classify"),
            1,
        ),
    ] {
        assert_eq!(count(filter.clone()).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn the_list_finds_jobs_by_numeric_and_boolean_metadata() {
    let stack = Stack::without_workers().await;
    let image = STANDARD.encode(fixtures::photo("cat.jpg"));
    let metadata = json!({"listing": 8841, "sold": true, "shop": "north"});
    let job = json!({"image": {"data": image}, "metadata": metadata});
    let job = stack.client.post_json("/v1/jobs", &job).await;
    assert_eq!(job.status, 202, "{}", job.text());
    submit_job(&stack).await;
    for filter in ["listing=8841", "sold=true", "shop=north"] {
        let path = format!("/v1/jobs?metadata.{filter}");
        let found = stack.client.get(&path).await.json()["data"].clone();
        assert_eq!(found.as_array().unwrap().len(), 1, "{filter}");
        assert_eq!(found[0]["metadata"], metadata, "{filter}");
    }
}

#[tokio::test]
async fn lists_contain_attempts_only_on_request() {
    let stack = Stack::without_workers().await;
    succeeded_job_id(&stack).await;
    let list =
        |query: &'static str| async { stack.client.get(query).await.json()["data"][0].clone() };
    assert_eq!(list("/v1/jobs").await["attempts"]["items"], Value::Null);
    let items = &list("/v1/jobs?include=attempts").await["attempts"]["items"];
    assert_eq!(items.as_array().unwrap().len(), 1);
}

/// Housekeeping runs in the API: no worker has to be alive.
#[tokio::test]
async fn the_api_rescues_and_promotes_jobs_without_a_worker() {
    let stack = Stack::without_workers().await;
    let (id, _) = submit_job(&stack).await;
    let lost = given::claimed_by(&stack.db, "lost").await;
    clock::lease_ran_out(&stack.db, lost.worker).await;
    let job = tests::eventually(
        std::time::Duration::from_secs(15),
        "the job is queued",
        || async {
            let job = stack.client.job(&id).await;
            (job["status"] == "queued").then_some(job)
        },
    )
    .await;
    assert_eq!(job["attempts"]["interruptions"], 1);
    assert_eq!(job["attempts"]["items"][0]["outcome"], "lost");
    assert_eq!(job["attempts"]["items"][0]["charged"], false);
}

#[tokio::test]
async fn head_answers_like_get_without_a_body_and_never_waits() {
    let stack = Stack::without_workers().await;
    let (id, _) = submit_job(&stack).await;
    let job = format!("/v1/jobs/{id}");
    let head = |path: &str| stack.client.request(Method::HEAD, path);
    for path in ["/livez", "/docs", &job] {
        let (got, head) = (stack.client.get(path).await, send(head(path)).await);
        assert_eq!((got.status, head.status), (200, 200), "{path}");
        assert!(head.body.is_empty(), "{path}");
        for name in ["content-type", "content-length", "etag"] {
            assert_eq!(head.header(name), got.header(name), "{name} of {path}");
        }
    }
    assert_eq!(send(head("/v1/jobs/nothing")).await.status, 404);

    let known = stack.client.get(&job).await;
    let known = known.header("etag").unwrap();
    let waiting = head(&job)
        .header("If-None-Match", known)
        .header("Prefer", "wait=1");
    let waiting = send(waiting).await;
    assert_eq!(waiting.status, 304);
    assert_eq!(waiting.header("preference-applied"), None);
    let events = head(&format!("{job}/events")).header("Accept", "text/event-stream");
    let events = send(events).await;
    assert_eq!(events.header("content-type"), Some("application/json"));
}
