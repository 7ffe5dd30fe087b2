//! A client may offer another protocol. The API ignores the offer, and the connection goes on.

use tests::{RawConnection, Stack, fixtures};

#[tokio::test]
async fn an_offer_of_http_2_does_not_end_the_connection() {
    let stack = Stack::bare(&[]).await;
    let mut client = RawConnection::open(&stack.api.url).await;
    for _ in 0..3 {
        let offer = [
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        ];
        client.send_head("GET /livez", &offer).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok\n"[..]));
        assert_eq!(answer.header("connection"), None, "{}", answer.head);
    }
}

#[tokio::test]
async fn a_submit_that_offers_a_websocket_is_a_submit() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let (key, length) = (
        format!("Authorization: Bearer {}", stack.key().await),
        format!("Content-Length: {}", photo.len()),
    );
    let headers = [
        key.as_str(),
        length.as_str(),
        "Content-Type: image/jpeg",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
    ];
    let mut client = RawConnection::open(&stack.api.url).await;
    for _ in 0..2 {
        client.send_head("POST /v1/jobs", &headers).await;
        client.send(&photo).await.unwrap();
        let accepted = client.answer().await;
        assert_eq!(accepted.status, 202, "{}", accepted.head);
        assert_eq!(accepted.header("connection"), None, "{}", accepted.head);
    }
    client.send_head("GET /livez", &[]).await;
    assert_eq!(client.answer().await.status, 200);
}
