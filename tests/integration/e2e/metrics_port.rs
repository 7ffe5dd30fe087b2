//! What strangers can do to the metrics, and to the port of the probes.

use std::time::Duration;

use tests::{Client, RawConnection, Stack, eventually, stack::Running};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn made_up_methods_make_no_series_and_no_long_log_lines() {
    let stack = Stack::bare(&[]).await;
    let before = stack.api.metrics().await.len();
    let mut client = RawConnection::open(&stack.api.url).await;
    for number in 0..300 {
        let method = format!("M{number}{}", "X".repeat(60_000));
        client.send_head(&format!("{method} /v1/jobs"), &[]).await;
        let refusal = client.answer().await;
        assert_eq!(refusal.status, 405, "{}", refusal.head);
        assert!(refusal.body.len() < 1000, "{}", refusal.body.len());
    }
    let metrics = stack.api.metrics().await;
    assert!(metrics.contains(r#"method="other""#), "{metrics}");
    assert!(!metrics.contains("XXX"), "no method of a caller");
    assert!(metrics.len() < before + 20_000, "{} bytes", metrics.len());
    let log = stack.api.log();
    assert!(!log.contains("XXX"), "no method of a caller");
    assert!(log.contains(r#""http.method":"other""#));
    let memory = stack.api.memory_mib();
    assert!(memory < 300.0, "{memory} MiB");
}

/// Lets a running process have this many descriptors.
fn limit_descriptors(process: &Running, max: usize) {
    let status = std::process::Command::new("prlimit")
        .args([
            format!("--pid={}", process.pid()),
            format!("--nofile={max}:{max}"),
        ])
        .status();
    assert!(status.unwrap().success(), "prlimit failed");
}

/// Opens connections that stay idle. The kernel takes them in; whether the process does is its affair.
async fn idle_connections(url: &str, count: usize) -> Vec<TcpStream> {
    let host = url.trim_start_matches("http://");
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(host).await.unwrap());
    }
    idle
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_to_the_metrics_port_leave_descriptors_for_the_api() {
    let stack = Stack::bare(&[]).await;
    limit_descriptors(&stack.api, 256);
    let before = stack.api.descriptors();
    let _idle = idle_connections(stack.api.metrics_url(), 300).await;
    let probes = Client::new(stack.api.metrics_url(), None);
    for _ in 0..3 {
        assert_eq!(probes.get("/livez").await.status, 200);
        assert_eq!(probes.get("/readyz").await.status, 200);
        assert_eq!(stack.client.get("/v1/jobs").await.status, 200);
    }
    let added = stack.api.descriptors() - before;
    assert!(added < 64 + 20, "{added} more descriptors");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_descriptors_still_answers_probes() {
    let stack = Stack::bare(&[]).await;
    limit_descriptors(&stack.api, 256);
    let idle = idle_connections(&stack.api.url, 300).await;
    eventually(
        Duration::from_secs(10),
        "the descriptors are taken",
        || async { (stack.api.descriptors() >= 250).then_some(()) },
    )
    .await;
    let probes = Client::new(stack.api.metrics_url(), None);
    for _ in 0..20 {
        assert_eq!(probes.get("/livez").await.status, 200);
    }
    drop(idle);
    eventually(
        Duration::from_secs(20),
        "the API takes requests again",
        || async {
            let answer = stack.client.request(reqwest::Method::GET, "/v1/jobs");
            let answer = answer.send().await.ok()?;
            (answer.status() == 200).then_some(())
        },
    )
    .await;
}
