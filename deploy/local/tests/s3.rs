//! The S3 server, used over HTTP through the library of Amazon.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials as Keys, Region};
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use local::{Credentials, S3, S3Options};

async fn start(folder: &Path) -> S3 {
    S3::start(S3Options {
        data: folder.join("objects"),
        log: folder.join("s3.log"),
        port: None,
        credentials: Credentials {
            access_key: "AKTEST".into(),
            secret_key: "secret".into(),
        },
        program: env!("CARGO_BIN_EXE_darkroom-local").into(),
    })
    .await
    .unwrap()
}

fn client(s3: &S3, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(s3.endpoint())
        .region(Region::new(local::REGION))
        .credentials_provider(Keys::new("AKTEST", secret, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .force_path_style(true);
    Client::from_conf(config.build())
}

/// Starts a server with a bucket `photos`, and a client.
async fn photos(folder: &Path) -> (S3, Client) {
    let s3 = start(folder).await;
    let client = client(&s3, "secret");
    client
        .create_bucket()
        .bucket("photos")
        .send()
        .await
        .unwrap();
    (s3, client)
}

async fn put(client: &Client, key: &str, body: Vec<u8>) {
    let put = client
        .put_object()
        .bucket("photos")
        .key(key)
        .content_type("image/jpeg");
    put.body(body.into()).send().await.unwrap();
}

async fn get(client: &Client, key: &str) -> Vec<u8> {
    let got = client
        .get_object()
        .bucket("photos")
        .key(key)
        .send()
        .await
        .unwrap();
    got.body.collect().await.unwrap().to_vec()
}

/// More bytes than one chunk of any stage. Neighboring bytes differ.
fn large() -> Vec<u8> {
    (0..3_000_001_u32).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn objects_come_back_whole_and_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, client) = photos(folder.path()).await;
    put(&client, "a/big photo.jpg", large()).await;
    assert!(get(&client, "a/big photo.jpg").await == large());

    let head = client
        .head_object()
        .bucket("photos")
        .key("a/big photo.jpg")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(3_000_001));
    assert_eq!(head.content_type(), Some("image/jpeg"));

    let part = client.get_object().bucket("photos").key("a/big photo.jpg");
    let part = part.range("bytes=300000-899999").send().await.unwrap();
    assert_eq!(part.content_range(), Some("bytes 300000-899999/3000001"));
    assert!(part.body.collect().await.unwrap().to_vec() == large()[300_000..900_000]);
    let part = client.get_object().bucket("photos").key("a/big photo.jpg");
    let part = part.range("bytes=1000000-").send().await.unwrap();
    assert!(part.body.collect().await.unwrap().to_vec() == large()[1_000_000..]);

    client
        .delete_object()
        .bucket("photos")
        .key("a/big photo.jpg")
        .send()
        .await
        .unwrap();
    let gone = client
        .get_object()
        .bucket("photos")
        .key("a/big photo.jpg")
        .send()
        .await;
    assert_eq!(gone.unwrap_err().code(), Some("NoSuchKey"));
}

#[tokio::test]
async fn an_empty_object_comes_back_empty_and_a_range_after_the_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, client) = photos(folder.path()).await;
    put(&client, "empty.jpg", Vec::new()).await;
    assert!(get(&client, "empty.jpg").await.is_empty());

    put(&client, "cat.jpg", b"purr".to_vec()).await;
    let part = client.get_object().bucket("photos").key("cat.jpg");
    let refused = part.range("bytes=4-").send().await.unwrap_err();
    assert_eq!(refused.code(), Some("InvalidRange"));
}

#[tokio::test]
async fn an_upload_with_a_wrong_sha256_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, client) = photos(folder.path()).await;
    let put = client.put_object().bucket("photos").key("cat.jpg");
    let put = put.checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="); // of nothing
    let refused = put
        .body(ByteStream::from_static(b"purr"))
        .send()
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some("BadDigest"));
    let listed = client
        .list_objects_v2()
        .bucket("photos")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.key_count(), Some(0));
}

#[tokio::test]
async fn a_body_longer_or_other_than_its_presigned_url_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, client) = photos(folder.path()).await;
    let presigned = client
        .put_object()
        .bucket("photos")
        .key("cat.jpg")
        .content_type("image/jpeg")
        .checksum_sha256("yD2wXY4Bsv+pO1FAHYpGEjWRNMtXEVgHGaOvMypDyKI=") // of other bytes
        .presigned(PresigningConfig::expires_in(Duration::from_mins(5)).unwrap())
        .await
        .unwrap();
    let http = reqwest::Client::new();
    let send = |body: &'static str| {
        let put = http.put(presigned.uri());
        let put = presigned
            .headers()
            .fold(put, |put, (name, value)| put.header(name, value));
        put.body(body).send()
    };
    assert_eq!(send("purr").await.unwrap().status(), 400);
    let unsigned = http
        .put(presigned.uri().replace("cat", "dog"))
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 403);

    let right = client
        .put_object()
        .bucket("photos")
        .key("cat.jpg")
        .content_type("image/jpeg");
    let right = right.presigned(PresigningConfig::expires_in(Duration::from_mins(5)).unwrap());
    let right = right.await.unwrap();
    let put = http
        .put(right.uri())
        .header("content-type", "image/jpeg")
        .body("purr");
    assert_eq!(put.send().await.unwrap().status(), 200);
    assert_eq!(get(&client, "cat.jpg").await, b"purr");
}

#[tokio::test]
async fn only_the_holder_of_the_secret_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let (s3, _client) = photos(folder.path()).await;
    let stranger = client(&s3, "guess");
    let refused = stranger
        .list_objects_v2()
        .bucket("photos")
        .send()
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some("SignatureDoesNotMatch"));
    let unsigned = reqwest::get(format!("{}/photos", s3.endpoint()))
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 403);
}

#[tokio::test]
async fn a_conditional_upload_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, client) = photos(folder.path()).await;
    put(&client, "cat.jpg", b"first".into()).await;
    let second = client
        .put_object()
        .bucket("photos")
        .key("cat.jpg")
        .if_none_match("*");
    let refused = second
        .body(ByteStream::from_static(b"second"))
        .send()
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some("PreconditionFailed"));
    assert_eq!(get(&client, "cat.jpg").await, b"first");
}

#[tokio::test]
async fn listings_go_page_by_page_and_fold() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, client) = photos(folder.path()).await;
    for key in ["a/1", "a/2", "b/1", "c"] {
        put(&client, key, b"x".into()).await;
    }
    let mut pages = client
        .list_objects_v2()
        .bucket("photos")
        .max_keys(3)
        .into_paginator()
        .send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(
            page.unwrap()
                .contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    assert_eq!(keys, ["a/1", "a/2", "b/1", "c"]);

    let tree = client
        .list_objects_v2()
        .bucket("photos")
        .delimiter("/")
        .send()
        .await
        .unwrap();
    let folders: Vec<_> = tree
        .common_prefixes()
        .iter()
        .filter_map(|p| p.prefix())
        .collect();
    assert_eq!(folders, ["a/", "b/"]);
}

#[tokio::test]
async fn objects_outlive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (s3, client) = photos(folder.path()).await;
    put(&client, "cat.jpg", large()).await;
    s3.process.kill().await;
    let s3 = start(folder.path()).await;
    assert!(get(&self::client(&s3, "secret"), "cat.jpg").await == large());
}
