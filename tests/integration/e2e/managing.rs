//! Retry, delete and explain of jobs; pause and resume of models; drain of workers. The tests play the worker.

use jobs::{JobId, Problem, ProblemCode, keys::Scope, queue};
use reqwest::Method;
use serde_json::json;
use tests::{Answer, Stack, client::send, fixtures, given};

async fn failed_job_id(stack: &Stack) -> String {
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    let problem = Problem::new(ProblemCode::ImageUndecodable, "cut short");
    tests::settling::fail(&stack.db, &[(claimed.lease(), problem)])
        .await
        .unwrap();
    job["id"].as_str().unwrap().to_owned()
}

async fn succeeded_job_id(stack: &Stack) -> String {
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let claimed = given::claimed_by(&stack.db, "w").await;
    tests::settling::complete(&stack.db, &[claimed.completion("cat")])
        .await
        .unwrap();
    job["id"].as_str().unwrap().to_owned()
}

async fn ask(stack: &Stack, method: Method, path: &str) -> Answer {
    send(stack.client.request(method, path)).await
}

#[tokio::test]
async fn a_retried_job_keeps_its_id_and_its_history() {
    let stack = Stack::without_workers().await;
    let id = failed_job_id(&stack).await;
    let retry = format!("/v1/jobs/{id}/retry");
    let again = ask(&stack, Method::POST, &retry).await;
    assert_eq!(again.status, 202, "{}", again.text());
    assert_eq!(
        again.header("location"),
        Some(format!("/v1/jobs/{id}").as_str())
    );
    let job = again.json();
    assert_eq!(job["status"], "queued");
    assert_eq!(job["attempts"]["charged"], 0);
    assert_eq!(job["attempts"]["items"][0]["outcome"], "failed");
    let twice = ask(&stack, Method::POST, &retry).await;
    twice.problem(409, "not_retryable");

    let claimed = given::claimed_by(&stack.db, "v").await;
    tests::settling::complete(&stack.db, &[claimed.completion("cat")])
        .await
        .unwrap();
    let job = stack.client.job(&id).await;
    assert_eq!(job["status"], "succeeded");
    let outcomes: Vec<_> = job["attempts"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["failed", "succeeded"]);
}

#[tokio::test]
async fn a_succeeded_job_cannot_be_retried() {
    let stack = Stack::without_workers().await;
    let id = succeeded_job_id(&stack).await;
    let answer = ask(&stack, Method::POST, &format!("/v1/jobs/{id}/retry")).await;
    answer.problem(409, "not_retryable");
}

#[tokio::test]
async fn a_deleted_job_answers_410_and_never_404() {
    let stack = Stack::without_workers().await;
    let id = succeeded_job_id(&stack).await;
    let path = format!("/v1/jobs/{id}");
    for _ in 0..2 {
        assert_eq!(ask(&stack, Method::DELETE, &path).await.status, 204);
    }
    for purged in [path.clone(), format!("{path}/result")] {
        stack.client.get(&purged).await.problem(410, "data_purged");
    }
    let list = stack.client.get("/v1/jobs").await.json();
    assert_eq!(list["data"], json!([]), "lists show no tombstones");
    let id: JobId = id.parse().unwrap();
    let row = queue::find(&stack.db, id, given::OWNER).await.unwrap();
    assert_eq!(row.unwrap().result, None);
}

#[tokio::test]
async fn a_deleted_job_cannot_be_retried() {
    let stack = Stack::without_workers().await;
    let id = failed_job_id(&stack).await;
    let path = format!("/v1/jobs/{id}");
    assert_eq!(ask(&stack, Method::DELETE, &path).await.status, 204);
    let retried = ask(&stack, Method::POST, &format!("{path}/retry")).await;
    retried.problem(410, "data_purged");
}

#[tokio::test]
async fn a_job_that_has_not_ended_cannot_be_deleted() {
    let stack = Stack::without_workers().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let early = ask(&stack, Method::DELETE, &path).await;
    early.problem(409, "job_not_finished");
    given::claimed_by(&stack.db, "w").await;
    let early = ask(&stack, Method::DELETE, &path).await;
    early.problem(409, "job_not_finished");
}

#[tokio::test]
async fn another_owners_job_answers_404_to_retry_delete_and_explain() {
    let stack = Stack::without_workers().await;
    let id = failed_job_id(&stack).await;
    let other = stack
        .client_of("mallory", &[Scope::Submit, Scope::Read])
        .await;
    for (method, path) in [
        (Method::POST, format!("/v1/jobs/{id}/retry")),
        (Method::DELETE, format!("/v1/jobs/{id}")),
        (Method::GET, format!("/v1/jobs/{id}/explain")),
    ] {
        let answer = send(other.request(method, &path)).await;
        answer.problem(404, "not_found");
    }
    assert_eq!(stack.client.job(&id).await["status"], "failed");
}

#[tokio::test]
async fn workers_claim_no_job_of_a_paused_model() {
    let stack = Stack::without_workers().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap();
    let queue_path = format!("/v1/queues/{}", fixtures::CLASSIFIER);
    let pause = format!("{queue_path}/pause?why=bad%20scores");
    assert_eq!(ask(&stack, Method::POST, &pause).await.status, 204);
    let worker = given::worker(&stack.db, "w").await;
    let none = tests::claiming::claim(&stack.db, worker, &[], 1)
        .await
        .unwrap();
    assert!(none.is_empty());
    let explained = stack.client.get(&format!("/v1/jobs/{id}/explain")).await;
    assert_eq!(explained.status, 200);
    assert!(
        explained.text().contains("bad scores"),
        "{}",
        explained.text()
    );
    let resume = format!("{queue_path}/resume");
    assert_eq!(ask(&stack, Method::POST, &resume).await.status, 204);
    let one = tests::claiming::claim(&stack.db, worker, &[], 1)
        .await
        .unwrap();
    assert_eq!(one.len(), 1);
    let verbs: Vec<String> = sqlx::query_scalar("select verb from audit order by audit_id")
        .fetch_all(&*stack.db)
        .await
        .unwrap();
    assert_eq!(verbs, ["create_key", "pause", "resume"]);
}

#[tokio::test]
async fn an_invalid_pause_reason_or_a_nul_byte_causes_no_server_error() {
    let stack = Stack::without_workers().await;
    let pause = format!("/v1/queues/{}/pause", fixtures::CLASSIFIER);
    for why in ["a%00b", &"a".repeat(1_001)] {
        let refused = ask(&stack, Method::POST, &format!("{pause}?why={why}")).await;
        refused.problem_at(422, "invalid_params", "/why");
    }
    for verb in ["pause", "resume"] {
        let unknown = ask(&stack, Method::POST, &format!("/v1/queues/%00/{verb}")).await;
        unknown.problem(404, "not_found");
    }
    for query in [
        "usage?owner=%00",
        "usage?group_by=%00",
        "events?cursor=%00",
        "webhook_deliveries?status=%00",
        "webhook_deliveries?cursor=%00",
        "batches?cursor=%00",
        "batches?status=%00",
        "images/%00",
        "models/%00",
        "workers?x=%00",
        "stats?x=%00",
    ] {
        let answer = stack.client.get(&format!("/v1/{query}")).await;
        assert!(answer.status < 500, "{query}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_operator_drains_a_worker_by_its_id() {
    let stack = Stack::without_workers().await;
    let worker = given::worker(&stack.db, "spot-a").await;
    let drain = format!("/v1/workers/{worker}/drain");
    assert_eq!(ask(&stack, Method::POST, &drain).await.status, 202);
    let listed = stack.client.get("/v1/workers").await.json();
    assert_eq!(listed["data"][0]["name"], "spot-a");
    assert_eq!(listed["data"][0]["status"], "draining");
    queue::deregister(&stack.db, worker).await.unwrap();
    assert_eq!(ask(&stack, Method::POST, &drain).await.status, 204);
    for unknown in ["/v1/workers/999999/drain", "/v1/workers/w/drain"] {
        let answer = ask(&stack, Method::POST, unknown).await;
        answer.problem(404, "not_found");
    }
}

#[tokio::test]
async fn without_the_operate_scope_queues_and_workers_are_forbidden() {
    let stack = Stack::without_workers().await;
    let client = stack
        .client_of("alice", &[Scope::Submit, Scope::Read])
        .await;
    for (method, path) in [
        (Method::POST, "/v1/queues/lite/pause"),
        (Method::POST, "/v1/queues/lite/resume"),
        (Method::GET, "/v1/workers"),
        (Method::POST, "/v1/workers/1/drain"),
    ] {
        let answer = send(client.request(method, path)).await;
        answer.problem(403, "forbidden");
    }
}
