//! How batches end: results, cancels, retries, and the event `batch.completed`.

use jobs::queue;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Receiver, Stack, client::send, given};

use super::{
    complete_next_job, create_batch, fail_next_job, get_results, line_numbers, newest_job,
    store_image, wait_until_ended,
};

#[tokio::test]
async fn results_stop_before_the_first_line_that_has_not_ended() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    queue::cancel(&stack.db, newest_job(&stack).await, None)
        .await
        .unwrap();
    let line = json!({"image": {"sha256": sha256}});
    let id = create_batch(&stack, &vec![line; 3]).await;
    let first = given::claimed_by(&stack.db, "slow").await;
    complete_next_job(&stack).await;
    assert!(
        get_results(&stack, &id, "").await.is_empty(),
        "line 1 has not ended"
    );
    tests::settling::complete(&stack.db, &[first.completion("cat")])
        .await
        .unwrap();
    assert_eq!(line_numbers(&get_results(&stack, &id, "").await), [1, 2]);
    assert_eq!(
        line_numbers(&get_results(&stack, &id, "?after=1").await),
        [2]
    );

    let path = format!("/v1/batches/{id}/results?after=1");
    let open = stack
        .client
        .request(Method::GET, &path)
        .header("Prefer", "wait=20");
    let open = tokio::spawn(send(open));
    complete_next_job(&stack).await;
    let answer = open.await.unwrap();
    assert_eq!(answer.header("preference-applied"), Some("wait=20"));
    let text = answer.text();
    let rest: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(line_numbers(&rest), [2, 3]);
}

#[tokio::test]
async fn one_request_cancels_a_batch_and_one_request_retries_its_failed_jobs() {
    let stack = Stack::without_workers().await;
    let sha256 = store_image(&stack, "cat.jpg").await;
    queue::cancel(&stack.db, newest_job(&stack).await, None)
        .await
        .unwrap();
    let line = json!({"image": {"sha256": sha256}});
    let id = create_batch(&stack, &vec![line; 3]).await;
    fail_next_job(&stack).await;
    complete_next_job(&stack).await;
    let cancel = format!("/v1/batches/{id}/cancel");
    let canceled = stack.client.post_json(&cancel, &json!({})).await;
    // 202: housekeeping is ending the batch at this moment.
    assert!(matches!(canceled.status, 200 | 202), "{}", canceled.text());
    let canceled = wait_until_ended(&stack, &id).await;
    assert_eq!(canceled["status"], "canceled");
    assert_eq!(
        stack.client.post_json(&cancel, &json!({})).await.status,
        200
    );

    let retry = format!("/v1/batches/{id}/retry_failed");
    let retried = stack.client.post_json(&retry, &json!({})).await;
    assert_eq!(retried.status, 202, "{}", retried.text());
    assert_eq!(retried.json()["status"], "running");
    assert_eq!(
        stack.client.post_json(&retry, &json!({})).await.status,
        200,
        "no failed job is left"
    );
    complete_next_job(&stack).await;
    let done = wait_until_ended(&stack, &id).await;
    assert_eq!(done["status"], "partly_failed");
    let counts = &done["counts"];
    assert_eq!(
        (&counts["succeeded"], &counts["canceled"]),
        (&json!(2), &json!(1))
    );
    stack
        .client
        .post_json(&cancel, &json!({}))
        .await
        .problem(409, "job_terminal");
}

#[tokio::test]
async fn the_batch_completed_event_contains_the_batch() {
    let private = ("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true");
    let stack = Stack::without_workers_but(&[private]).await;
    let receiver = Receiver::start().await;
    let wanted = json!({"url": receiver.url("/"), "events": ["batch.completed"]});
    let made = stack.client.post_json("/v1/webhook_endpoints", &wanted);
    assert_eq!(made.await.status, 201);
    let sha256 = store_image(&stack, "cat.jpg").await;
    queue::cancel(&stack.db, newest_job(&stack).await, None)
        .await
        .unwrap();
    let line = json!({"image": {"sha256": sha256}});
    let id = create_batch(&stack, &vec![line; 2]).await;
    fail_next_job(&stack).await;
    complete_next_job(&stack).await;
    let batch = wait_until_ended(&stack, &id).await;
    assert_eq!(batch["counts"]["failed"], 1);

    let event = receiver.heard(1).await.pop().unwrap().json();
    assert_eq!(event["type"], "batch.completed");
    assert_eq!(event["data"], batch, "by webhook");
    let path = "/v1/events?types=batch.completed";
    let feed = stack.client.request(Method::GET, path);
    let feed = send(feed.header("Prefer", "wait=20")).await.json();
    assert_eq!(feed["data"][0]["data"], batch, "in the feed");

    sqlx::query("delete from batches")
        .execute(&*stack.db)
        .await
        .unwrap();
    let feed = stack.client.get(path).await.json();
    let gone = json!({"id": id, "object": "batch"});
    assert_eq!(feed["data"][0]["data"], gone, "only the id is left");
}
