use std::time::Instant;

use serde_json::{Value, json};
use tests::{Stack, fixtures};

use crate::{Bench, median, rounded};

/// Milliseconds from the start of a worker process to its first result at the client. The job is already queued, and the
/// model is in the worker's cache on disk.
pub(crate) async fn measure(bench: &Bench) -> Value {
    let stack = Stack::with_models().await;
    let photo = fixtures::photo("ladybird.jpg");
    let worker = bench.worker(&stack, "fills-the-cache").await;
    stack.client.predicted("", photo.clone()).await;
    drop(worker);

    let (mut first_results, mut registrations) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds {
        let job = stack.client.submit("", photo.clone()).await;
        let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
        let began = Instant::now();
        let worker = stack.spawn_worker(
            &format!("cold-{round}"),
            &[("DARKROOM_DEVICE", &bench.device)],
        );
        let wait = stack.client.request(reqwest::Method::GET, &path);
        let ended = tests::client::send(wait.header("Prefer", "wait=60")).await;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let job = ended.json();
        assert_eq!(job["status"], "succeeded", "{job:#}");
        let at_work = job["timings_ms"]["total"].as_f64().unwrap()
            - job["timings_ms"]["queue"].as_f64().unwrap();
        first_results.push(took);
        registrations.push(took - at_work);
        eprintln!("round {round}: {took:.0} ms");
        drop(worker);
    }
    json!({
        "cold_ms": rounded(median(first_results)), "until_claimed_ms": rounded(median(registrations)),
        "device": bench.device, "rounds": bench.rounds,
    })
}
