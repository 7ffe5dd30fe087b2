//! Images that jobs name by their URL.

use serde_json::{Value, json};
use tests::{Answer, Receiver, Stack, fixtures, receiver::Reply};

const ON: (&str, &str) = ("DARKROOM_IMAGE_URLS", "true");
const PRIVATE: (&str, &str) = ("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true");

async fn submit(stack: &Stack, url: &str) -> Answer {
    let job = json!({"image": {"url": url}});
    stack.client.post_json("/v1/jobs", &job).await
}

fn redirect(to: &str) -> Reply {
    Reply::With(302, "location", to.into())
}

#[tokio::test]
async fn an_image_is_fetched_at_submit_and_handled_as_an_upload() {
    let stack = Stack::without_workers_but(&[ON, PRIVATE]).await;
    let server = Receiver::start().await;
    let cat = fixtures::photo("cat.jpg");
    // The declared content type does not count.
    server.serves("/cat", Reply::Body("text/plain", cat.clone()));
    server.serves("/1", redirect("/2"));
    server.serves("/2", redirect(&server.url("/3")));
    server.serves("/3", redirect("cat"));
    let uploaded = stack.client.submit("", cat).await;
    for path in ["/cat", "/1"] {
        let answer = submit(&stack, &server.url(path)).await;
        assert_eq!(answer.status, 202, "{path}: {}", answer.text());
        assert_eq!(answer.json()["input"], uploaded["input"]);
    }
}

#[tokio::test]
async fn every_failed_fetch_gets_one_problem_with_one_detail() {
    let few_bytes = ("DARKROOM_IMAGE_BYTES_MAX", "300000");
    let short_timeout = ("DARKROOM_IMAGE_URL_TIMEOUT_MS", "500");
    let stack = Stack::without_workers_but(&[ON, PRIVATE, few_bytes, short_timeout]).await;
    let server = Receiver::start().await;
    server.serves("/missing", Reply::Status(404));
    server.serves("/empty", Reply::Status(204));
    server.serves("/hangs", Reply::Hangs);
    server.serves("/nowhere", Reply::Status(302));
    for (path, next) in [("/1", "/2"), ("/2", "/3"), ("/3", "/4"), ("/4", "/5")] {
        server.serves(path, redirect(next));
    }
    let closed = Receiver::start().await.url("/");
    let urls = ["/missing", "/empty", "/hangs", "/nowhere", "/1"].map(|path| server.url(path));
    let mut details: Vec<Value> = vec![];
    for url in urls.iter().chain([&closed]) {
        let problem = submit(&stack, url).await.problem(422, "image_url_failed");
        details.push(problem["detail"].clone());
    }
    details.dedup();
    assert_eq!(details.len(), 1, "{details:?}");
    assert!(
        server.all().iter().all(|heard| heard.path != "/5"),
        "the API must not follow the fourth redirect"
    );

    // Fetched bytes get the checks of uploaded bytes.
    server.serves(
        "/page",
        Reply::Body("image/jpeg", b"<html>not an image</html>".to_vec()),
    );
    let page = submit(&stack, &server.url("/page")).await;
    page.problem(415, "unsupported_media_type");
    server.serves("/large", Reply::Body("image/jpeg", vec![0xff; 300_001]));
    let large = submit(&stack, &server.url("/large")).await;
    large.problem(413, "image_too_large");
}

#[tokio::test]
async fn a_forbidden_address_is_refused() {
    let stack = Stack::without_workers_but(&[ON]).await;
    for url in [
        "http://example.com/cat.jpg",
        "https://127.0.0.1/cat.jpg",
        "https://[fd00::1]/cat.jpg",
        "https://169.254.169.254/latest/meta-data/",
        "https://example.com:22/cat.jpg",
        "file:///etc/passwd",
        "nonsense",
    ] {
        let answer = submit(&stack, url).await;
        answer.problem_at(422, "image_url_blocked", "/image/url");
    }
}

/// Otherwise a client could ask for names until it knows the hosts of the service's network.
#[tokio::test]
async fn a_name_of_a_private_address_looks_like_a_name_that_does_not_exist() {
    let stack = Stack::without_workers_but(&[ON]).await;
    let private = submit(&stack, "https://localhost/cat.jpg").await;
    let unknown = submit(&stack, "https://no-such-host.invalid/cat.jpg").await;
    let [private, unknown] = [private, unknown].map(|answer| {
        let mut problem = answer.problem(422, "image_url_failed");
        for of_the_request in ["request_id", "trace_id"] {
            problem.as_object_mut().unwrap().remove(of_the_request);
        }
        problem
    });
    assert_eq!(private, unknown);
}

#[tokio::test]
async fn image_urls_are_off_by_default() {
    let stack = Stack::without_workers_but(&[PRIVATE]).await;
    let server = Receiver::start().await;
    let answer = submit(&stack, &server.url("/cat")).await;
    answer.problem(422, "image_url_blocked");
    assert_eq!(server.all().len(), 0);
}
