//! A decoder that crashes, hangs or is killed costs its image at most (docs/adr/0021-decoding-in-a-child.md).
//!
//! The program `test-decoder` of crate `decode` does what a comment of a JPEG asks for.

use std::time::Duration;

use serde_json::Value;
use tests::{
    Stack,
    decoders::{decoders_of, is_running, kill_decoders_of},
    eventually, fixtures,
    stack::Running,
};

/// Starts a worker with the test decoder.
async fn start_worker(stack: &Stack) -> Running {
    let decoder = local::bin_dir().unwrap().join("test-decoder");
    let env = [
        ("DARKROOM_DECODER", decoder.to_str().unwrap()),
        ("DARKROOM_DECODE_THREADS", "2"),
        ("DARKROOM_DECODE_BYTES_MAX", "134217728"),
        ("DARKROOM_DECODE_SECONDS_MAX", "1"),
    ];
    stack.worker("w", &env).await
}

/// A photo that asks the test decoder for something.
fn photo_that_asks_for(wish: &str) -> Vec<u8> {
    let comment = format!("test-decoder: {wish};");
    let length = u16::try_from(comment.len() + 2).unwrap();
    let photo = fixtures::photo("cat.jpg");
    let (start, rest) = photo.split_at(2);
    [
        start,
        b"\xff\xfe",
        &length.to_be_bytes(),
        comment.as_bytes(),
        rest,
    ]
    .concat()
}

async fn submit(stack: &Stack, image: Vec<u8>) -> String {
    let job = stack.client.submit("", image).await;
    job["id"].as_str().unwrap().to_owned()
}

async fn submit_good_jobs(stack: &Stack, jobs: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..jobs {
        ids.push(submit(stack, fixtures::photo("ladybird.jpg")).await);
    }
    ids
}

/// Waits for the end of a job that was tried once, by a worker that was not lost.
async fn ended_at_first_attempt(stack: &Stack, id: &str) -> Value {
    let job = stack.client.ended(id).await;
    assert_eq!(job["attempts"]["charged"], 1, "{job:#}");
    assert_eq!(job["attempts"]["interruptions"], 0, "{job:#}");
    assert_eq!(
        job["attempts"]["items"].as_array().unwrap().len(),
        1,
        "{job:#}"
    );
    job
}

async fn assert_all_succeed(stack: &Stack, ids: &[String]) {
    for id in ids {
        let job = ended_at_first_attempt(stack, id).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
    }
}

/// The worker registered once, so it never lost its lease.
async fn assert_one_worker(stack: &Stack) {
    let workers: i64 = sqlx::query_scalar("select count(*) from workers")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(workers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_crashes_or_hangs_costs_one_image() {
    let stack = Stack::with_models().await;
    let mut good = submit_good_jobs(&stack, 10).await;
    let mut bad = Vec::new();
    for (wish, cause) in [
        ("abort", "crashed"),
        ("segfault", "crashed"),
        ("exit", "crashed"),
        ("allocate", "crashed"),
        ("hang", "took_too_long"),
        ("a huge size", "wrong_answer"),
    ] {
        bad.push((submit(&stack, photo_that_asks_for(wish)).await, wish, cause));
        good.extend(submit_good_jobs(&stack, 4).await);
    }
    let worker = start_worker(&stack).await;
    for (id, wish, _) in &bad {
        let job = ended_at_first_attempt(&stack, id).await;
        assert_eq!(job["status"], "failed", "{wish}: {job:#}");
        assert_eq!(job["error"]["code"], "image_undecodable", "{wish}");
    }
    assert_all_succeed(&stack, &good).await;
    assert_one_worker(&stack).await;
    let metrics = worker.metrics().await;
    for (_, wish, cause) in &bad {
        let metric = format!("darkroom_decoder_restarts_total{{cause=\"{cause}\"}}");
        assert!(metrics.contains(&metric), "{wish}: {metrics}");
    }
    assert!(worker.log().contains("SIGSEGV"), "the log names the signal");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_decoders_cost_nothing() {
    let stack = Stack::with_models().await;
    let ids = submit_good_jobs(&stack, 60).await;
    let worker = start_worker(&stack).await;
    for _ in 0..4 {
        let running = || async {
            let decoders = decoders_of(worker.pid());
            (decoders.len() == 2).then_some(())
        };
        eventually(Duration::from_secs(30), "two decoders run", running).await;
        let killed = kill_decoders_of(worker.pid());
        // A decoder is started again when its thread has an image.
        let replaced = || async {
            let decoders = decoders_of(worker.pid());
            let is_new = decoders.len() == 2 && !decoders.iter().any(|pid| killed.contains(pid));
            if !is_new {
                submit(&stack, fixtures::photo("cat.jpg")).await;
            }
            is_new.then_some(())
        };
        eventually(Duration::from_secs(30), "two new decoders run", replaced).await;
    }
    assert_all_succeed(&stack, &ids).await;
    assert_one_worker(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decoders_of_a_killed_worker_end() {
    let stack = Stack::with_models().await;
    let worker = start_worker(&stack).await;
    let running = || async { (decoders_of(worker.pid()).len() == 2).then_some(()) };
    eventually(Duration::from_secs(30), "two decoders run", running).await;
    let decoders = decoders_of(worker.pid());
    worker.kill().await;
    let ended = || async { (!decoders.iter().any(|pid| is_running(*pid))).then_some(()) };
    eventually(Duration::from_secs(30), "the decoders have ended", ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_its_decoder_says_what_to_do() {
    let stack = Stack::with_models().await;
    let env = [("DARKROOM_DECODER", "/nowhere/darkroom-decoder")];
    let worker = stack.spawn_worker("w", &env);
    let status = worker.wait_for(Duration::from_mins(1)).await;
    assert_eq!(status.expect("the worker ends").code(), Some(1));
    let log = worker.log();
    assert!(
        log.contains("/nowhere/darkroom-decoder was not found"),
        "{log}"
    );
    assert!(log.contains("--decoder PATH"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_can_decode_in_its_own_process() {
    let stack = Stack::with_models().await;
    let worker = stack.worker("w", &[("DARKROOM_DECODE_IN", "thread")]).await;
    stack.client.predicted("", fixtures::photo("cat.jpg")).await;
    assert!(decoders_of(worker.pid()).is_empty());
}
