//! Images in base64 and in forms, as programs send them.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use jobs::Sha256Digest;
use reqwest::Method;
use serde_json::json;
use tests::{Client, Stack, client::Answer, client::send, fixtures};

fn wrapped(base64: &str, end: &str) -> String {
    let lines = base64.as_bytes().chunks(76);
    let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned() + end);
    lines.collect()
}

#[tokio::test]
async fn base64_is_taken_as_people_have_it() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let digest = Sha256Digest::of(&photo).to_string();
    let standard = STANDARD.encode(&photo);
    let forms = [
        wrapped(&standard, "\n"),
        wrapped(&standard, "\r\n"),
        format!("{standard}\n"),
        format!("data:image/jpeg;base64,{standard}"),
        URL_SAFE.encode(&photo),
        STANDARD_NO_PAD.encode(&photo),
        URL_SAFE_NO_PAD.encode(&photo),
    ];
    let mut bodies: Vec<_> = forms
        .iter()
        .map(|data| json!({"image": {"data": data}}).to_string())
        .collect();
    // As PHP and .NET escape JSON; and the output of `base64` in a JSON that a shell made.
    bodies.push(bodies[2].replace('/', r"\/"));
    bodies.push(bodies[2].replace('+', r"\u002B"));
    let raw = wrapped(&standard, "\n");
    let in_shell = format!("{{\"image\": {{\"data\": \"{raw}\"}}}}");
    for body in bodies.iter().chain([&in_shell]) {
        let taken = stack
            .client
            .post_job("", "application/json", body.clone())
            .await;
        assert_eq!(taken.status, 202, "{}: {:.200}", taken.text(), body);
        assert_eq!(taken.json()["input"]["image"], digest);
    }
    let lines = bodies.join("\n");
    let request = stack.client.request(Method::POST, "/v1/batches");
    let request = request.header("Content-Type", "application/x-ndjson");
    let batch = send(request.body(lines)).await;
    assert_eq!(batch.status, 202, "{}", batch.text());
    assert_eq!(batch.json()["counts"]["queued"], bodies.len());
    for data in [
        "not base64!",
        "QUJ",
        "data:image/jpeg,QUJD",
        "QUJD=",
        "QU=JD",
    ] {
        let body = json!({"image": {"data": data}});
        let refused = stack.client.post_json("/v1/jobs", &body).await;
        assert!(matches!(refused.status, 415 | 422), "{data}");
    }
}

#[tokio::test]
async fn the_document_says_that_the_image_is_base64() {
    let stack = Stack::without_workers().await;
    let document = stack.client.get("/openapi.json").await.json();
    let data = &document["components"]["schemas"]["ImageSource"]["properties"]["data"];
    assert_eq!(data["contentEncoding"], "base64", "{data:#}");
}

async fn post_form(client: &Client, path: &str, content_type: &str, parts: &[&[u8]]) -> Answer {
    let request = client.request(Method::POST, path);
    let request = request.header("Content-Type", content_type);
    send(request.body(parts.concat())).await
}

/// The file names, which are the `custom_id`s, as the refusals of a batch tell them.
async fn custom_ids(stack: &Stack, content_type: &str, parts: &[&[u8]]) -> Vec<String> {
    let batch = post_form(&stack.client, "/v1/batches", content_type, parts).await;
    assert_eq!(batch.status, 202, "{}", batch.text());
    let id = batch.json()["id"].as_str().unwrap().to_owned();
    let results = stack.client.get(&format!("/v1/batches/{id}/results")).await;
    let text = results.text();
    let lines = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["error"]["code"], "unsupported_media_type", "{line:#}");
        line["custom_id"].as_str().unwrap().to_owned()
    });
    lines.collect()
}

#[tokio::test]
async fn a_form_of_javamail_is_taken() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let base64 = wrapped(&STANDARD.encode(&photo), "\r\n");
    let parts: [&[u8]; 3] = [
        b"------=_Part_0_17.42\r\nContent-Type: image/jpeg; \r\n\tname=\"na\xefve.jpg\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"image\"; \r\n\tfilename=\"na\xefve.jpg\"\r\n\r\n",
        base64.as_bytes(),
        b"\r\n------=_Part_0_17.42--\r\n",
    ];
    let content_type = "multipart/form-data; boundary=----=_Part_0_17.42";
    let taken = post_form(&stack.client, "/v1/jobs", content_type, &parts).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    let digest = Sha256Digest::of(&photo).to_string();
    assert_eq!(taken.json()["input"]["image"], digest);
}

#[tokio::test]
async fn file_names_stay_as_their_senders_mean_them() {
    let stack = Stack::without_workers().await;
    let part = |parameters: &[u8]| {
        [
            b"--x\r\nContent-Disposition: form-data; name=image; ".as_slice(),
            parameters,
            b"\r\n\r\njust a text that is long enough to be no image\r\n",
        ]
        .concat()
    };
    let spelled: [(&[u8], &str); 6] = [
        (
            b"filename=\"C:\\photos\\new\\cat.jpg\"",
            "C:\\photos\\new\\cat.jpg",
        ),
        (b"filename=\"na\xefve.jpg\"", "na\u{ef}ve.jpg"),
        ("filename=\"na\u{ef}ve.jpg\"".as_bytes(), "na\u{ef}ve.jpg"),
        (
            b"filename=\"=?utf-8?B?bmHDr3ZlLmpwZw==?=\"; filename*=utf-8''na%C3%AFve.jpg",
            "na\u{ef}ve.jpg",
        ),
        (b"filename=\"a \\\"b\\\".jpg\"", "a \"b\".jpg"),
        (b"filename=photos/cat.jpg", "photos/cat.jpg"),
    ];
    let parts: Vec<_> = spelled
        .iter()
        .map(|(parameters, _)| part(parameters))
        .collect();
    let mut parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    parts.push(b"--x--\r\n");
    let names = custom_ids(&stack, "multipart/form-data; boundary=x", &parts).await;
    let wanted: Vec<_> = spelled.iter().map(|(_, name)| *name).collect();
    assert_eq!(names, wanted);
}
