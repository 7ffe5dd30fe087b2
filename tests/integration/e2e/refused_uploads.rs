//! An upload that is refused before its end: its client gets the refusal, and its connection is closed and freed.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use reqwest::Method;
use tests::{Client, Nginx, RawConnection, Stack, eventually, stack::Running};
use tokio::process::Command;

const CHUNKED: [&str; 2] = [
    "Content-Type: application/octet-stream",
    "Transfer-Encoding: chunked",
];
const CHUNK: &[u8] = &[b'x'; 64 << 10];

/// Starts an upload. Every other client has no key, which is seen at once; the rest has wrong ones, which are looked up.
async fn begin_upload(api: &Running, number: usize) -> RawConnection {
    let mut connection = RawConnection::open(&api.url).await;
    let key = format!("Authorization: Bearer dk_{number:012x}_{}", "A".repeat(43));
    let headers = [CHUNKED[0], CHUNKED[1], &key];
    let headers = &headers[..2 + number % 2];
    connection.send_head("POST /v1/jobs", headers).await;
    connection
}

/// Waits until the process has as few descriptors as before, but for some that its pools opened.
async fn descriptors_are_free(api: &Running, before: usize) {
    eventually(
        Duration::from_secs(20),
        "the descriptors of the clients are free",
        || async { (api.descriptors() < before + 20).then_some(()) },
    )
    .await;
}

/// As `requests` of Python does: this client reads the answer only after it has sent everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_clients_that_send_everything_first() {
    let stack = Stack::bare(&[]).await;
    let before = stack.api.descriptors();
    let uploads = (0..20).map(|number| {
        let api = &stack.api;
        async move {
            let mut client = begin_upload(api, number).await;
            // More than the socket buffers of both sides take.
            for _ in 0..200 {
                client.send_chunk(CHUNK).await.expect("the API reads on");
            }
            client.send_chunk(b"").await.expect("the API reads on");
            let refusal = client.answer().await;
            assert_eq!(refusal.status, 401, "{}", refusal.head);
            assert_eq!(refusal.header("connection"), Some("close"));
            client.closed().await;
        }
    });
    join_all(uploads).await;
    descriptors_are_free(&stack.api, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_that_leave_during_a_refused_upload_leave_no_descriptor() {
    let stack = Stack::bare(&[]).await;
    let before = stack.api.descriptors();
    let uploads = (0..100).map(|number| {
        let api = &stack.api;
        async move {
            let mut client = begin_upload(api, number).await;
            for _ in 0..60 {
                client.send_chunk(CHUNK).await.expect("the API reads on");
            }
            client
        }
    });
    let clients = join_all(uploads).await;
    assert!(stack.api.descriptors() >= before + 60, "most are connected");
    drop(clients);
    descriptors_are_free(&stack.api, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_that_never_stops_sending_is_cut_off() {
    let stack = Stack::bare(&[("DARKROOM_REFUSED_BODY_BYTES_MAX", "1000000")]).await;
    let before = stack.api.descriptors();
    let mut client = begin_upload(&stack.api, 0).await;
    let endless = async { while client.send_chunk(CHUNK).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), endless)
        .await
        .expect("the API closes the connection");
    descriptors_are_free(&stack.api, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_that_stops_sending_is_cut_off() {
    let stack = Stack::bare(&[("DARKROOM_REFUSED_BODY_TIMEOUT_MS", "300")]).await;
    let mut client = begin_upload(&stack.api, 0).await;
    client.send_chunk(CHUNK).await.unwrap();
    let refusal = client.answer().await;
    assert_eq!(
        refusal.status, 401,
        "the refusal does not wait for the body"
    );
    client.closed().await;
}

/// The header `connection` tells what happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_without_close_keeps_the_connection() {
    let stack = Stack::bare(&[]).await;
    for end in [b"0\r\n\r\n".as_slice(), b"3\r\nabc\r\n0\r\n\r\n"] {
        let mut client = RawConnection::open(&stack.api.url).await;
        for _ in 0..20 {
            client.send_head("POST /v1/no-such-path", &CHUNKED).await;
            client.send(end).await.unwrap();
            let refusal = client.answer().await;
            assert_eq!(refusal.status, 404, "{}", refusal.head);
            if refusal.header("connection") == Some("close") {
                client.closed().await;
                client = RawConnection::open(&stack.api.url).await;
            }
        }
    }
}

const PYTHON: &str = "
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
body = (b'x' * 65536 for _ in range(200))
headers = {'Transfer-Encoding': 'chunked', 'Content-Type': 'application/octet-stream'}
connection.request('POST', '/v1/jobs', body=body, headers=headers, encode_chunked=True)
print(connection.getresponse().status)
";

const NODE: &str = "
const [host, port] = process.argv[1].split(':');
const headers = {'Content-Type': 'application/octet-stream'};
const request = require('http').request({host, port, method: 'POST', path: '/v1/jobs', headers}, answer => {
    console.log(answer.statusCode);
    process.exit(0);
});
request.on('error', error => { console.log(error.code); process.exit(1); });
for (let i = 0; i < 200; i++) request.write(Buffer.alloc(65536));
request.end();
";

/// What a program prints; `None` if this machine does not have it.
async fn output(program: &str, args: &[&str]) -> Option<String> {
    let command = Command::new(program).args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(40), command).await;
    match output.unwrap_or_else(|_| panic!("{program} hangs")) {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        Err(error) => {
            eprintln!("{program} is not tested: {error}");
            None
        }
    }
}

/// Uploads without a key to `url`, with each client.
async fn each_client_sees_the_refusal(stack: &Stack, url: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), CHUNK.repeat(200)).unwrap();
    let data = format!("@{}", file.path().display());
    let host = url.trim_start_matches("http://");
    let target = format!("{url}/v1/jobs");
    let before = stack.api.descriptors();
    for _ in 0..5 {
        let python = output("python3", &["-c", PYTHON, host]).await;
        assert_eq!(python.as_deref().unwrap_or("401"), "401", "Python");
        let node = output("node", &["-e", NODE, host]).await;
        assert_eq!(node.as_deref().unwrap_or("401"), "401", "Node");
        let chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"];
        let quiet = ["-s", "-o", "/dev/null", "-w", "%{http_code}"];
        let curl = [&chunked[..], &quiet, &["--data-binary", &data, &target]].concat();
        let curl = output("curl", &curl).await;
        assert_eq!(curl.as_deref().unwrap_or("401"), "401", "curl");
        let chunks = (0..200).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(CHUNK)));
        let request = Client::new(url, None).request(Method::POST, "/v1/jobs");
        let body = reqwest::Body::wrap_stream(stream::iter(chunks));
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), 401, "reqwest");
    }
    descriptors_are_free(&stack.api, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usual_clients_see_the_refusal_of_a_chunked_upload() {
    let stack = Stack::bare(&[]).await;
    each_client_sees_the_refusal(&stack, &stack.api.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usual_clients_behind_nginx_see_the_refusal_of_a_chunked_upload() {
    let stack = Stack::bare(&[]).await;
    for buffers_requests in [true, false] {
        let Some(nginx) = Nginx::start(&stack.api.url, buffers_requests).await else {
            return;
        };
        each_client_sees_the_refusal(&stack, &nginx.url).await;
    }
}
