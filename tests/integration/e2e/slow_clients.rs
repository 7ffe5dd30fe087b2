//! Clients that send slowly, or that do not read: each is given up after a while.

use std::time::Duration;

use tests::{RawConnection, Stack, eventually, fixtures};

#[tokio::test]
async fn a_body_below_the_least_rate_is_refused() {
    // With this rate and no grace, a client is too slow as soon as the API has waited for it once.
    let strict = [
        ("DARKROOM_BODY_BYTES_PER_SECOND_MIN", "1000000000"),
        ("DARKROOM_BODY_RATE_AFTER_MS", "0"),
    ];
    let stack = Stack::without_workers_but(&strict).await;
    let mut client = RawConnection::open(&stack.api.url).await;
    let key = format!("Authorization: Bearer {}", stack.key().await);
    let headers = [
        key.as_str(),
        "Content-Type: image/jpeg",
        "Transfer-Encoding: chunked",
    ];
    client.send_head("POST /v1/jobs", &headers).await;
    let mut refusal = None;
    for byte in fixtures::photo("cat.jpg").chunks(1) {
        client.send_chunk(byte).await.expect("the API reads on");
        refusal = client.answer_within(Duration::from_millis(20)).await;
        if refusal.is_some() {
            break;
        }
    }
    let refusal = refusal.expect("a refusal before the end of the body");
    assert_eq!(refusal.status, 408, "{}", refusal.head);
    assert_eq!(refusal.header("connection"), Some("close"));
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_are_closed() {
    let stack = Stack::bare(&[("DARKROOM_WRITE_TIMEOUT_MS", "300")]).await;
    let before = stack.api.descriptors();
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut client = RawConnection::open_with_receive_buffer(&stack.api.url, 4096).await;
        client.send_head("GET /livez", &[]).await;
        assert_eq!(client.answer().await.status, 200);
        clients.push(client);
    }
    assert!(stack.api.descriptors() >= before + 30, "all are connected");
    // More answers than the socket buffers of both sides take.
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: api\r\n\r\n".repeat(200);
    for client in &mut clients {
        client.send(requests.as_bytes()).await.unwrap();
    }
    eventually(
        Duration::from_secs(20),
        "the connections of clients that do not read are closed",
        || async { (stack.api.descriptors() < before + 20).then_some(()) },
    )
    .await;
    assert_eq!(stack.client.get("/v1/jobs").await.status, 200);
}
