//! `/v1/uploads` and `/v1/images`.

use std::{collections::BTreeMap, time::Duration};

use jobs::{JobId, Sha256Digest, images, keys::Scope, object_store::Body, orphans, queue};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Client, Stack, client::send, fixtures, given};
use uuid::Uuid;

async fn request_upload(stack: &Stack, bytes: &[u8], content_type: &str) -> Answer {
    let sha256 = Sha256Digest::of(bytes);
    let body = json!({"sha256": sha256, "bytes": bytes.len(), "content_type": content_type});
    stack.client.post_json("/v1/uploads", &body).await
}

async fn sign_upload(stack: &Stack, bytes: &[u8]) -> Value {
    let answer = request_upload(stack, bytes, "image/jpeg").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

/// Sends the bytes as a client without an S3 library does. `change` replaces headers.
async fn put(upload: &Value, bytes: Vec<u8>, change: &[(&str, &str)]) -> u16 {
    assert_eq!(upload["method"], "PUT");
    let mut headers: BTreeMap<String, String> =
        serde_json::from_value(upload["headers"].clone()).unwrap();
    for (name, value) in change {
        headers.insert((*name).to_owned(), (*value).to_owned());
    }
    let mut request = reqwest::Client::new().put(upload["url"].as_str().unwrap());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.body(bytes).send().await.unwrap();
    answer.status().as_u16()
}

async fn submit_job_with(stack: &Stack, image: &Value) -> Answer {
    let body = json!({"image": {"sha256": image}});
    stack.client.post_json("/v1/jobs", &body).await
}

#[tokio::test]
async fn a_job_can_name_an_image_that_was_put_into_the_store() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.webp");
    let upload = sign_upload(&stack, &photo).await;
    assert_eq!(upload["stored"], false);
    assert_eq!(upload["image"], Sha256Digest::of(&photo).to_string());
    submit_job_with(&stack, &upload["image"])
        .await
        .problem(404, "not_found");
    assert_eq!(put(&upload, photo.clone(), &[]).await, 200);
    let job = submit_job_with(&stack, &upload["image"]).await;
    assert_eq!(job.status, 202, "{}", job.text());
    let input = &job.json()["input"];
    assert_eq!(input["bytes"], photo.len());
    assert_eq!(
        input["content_type"], "image/webp",
        "the bytes decide, not what was declared"
    );
    assert!(input["width"].as_i64().unwrap() > 0);
    let again = request_upload(&stack, &photo, "image/webp").await;
    assert_eq!((again.status, &again.json()["stored"]), (200, &json!(true)));
    assert_eq!(again.json().get("url"), None);
}

#[tokio::test]
async fn the_store_refuses_bytes_a_length_or_a_type_that_was_not_signed() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let upload = sign_upload(&stack, &photo).await;
    let mut other = photo.clone();
    let last = other.last_mut().unwrap();
    *last = !*last;
    assert_eq!(put(&upload, other.clone(), &[]).await, 400);
    let digest = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        Sha256Digest::of(&other).as_bytes(),
    );
    let changed = [("x-amz-checksum-sha256", digest.as_str())];
    assert_eq!(put(&upload, other, &changed).await, 403);
    assert_eq!(
        put(&upload, photo.clone(), &[("content-type", "text/html")]).await,
        403
    );
    let mut longer = photo.clone();
    longer.push(0);
    let length = longer.len().to_string();
    let status = put(&upload, longer, &[("content-length", &length)]).await;
    assert_eq!(status, 403);
    submit_job_with(&stack, &upload["image"])
        .await
        .problem(404, "not_found");
    assert_eq!(put(&upload, photo, &[]).await, 200);
}

#[tokio::test]
async fn a_stored_object_that_is_no_image_is_refused_when_a_job_names_it() {
    let stack = Stack::without_workers().await;
    for (file, status, code) in [
        ("bad/page.html", 415, "unsupported_media_type"),
        ("bad/header-cut.png", 422, "image_undecodable"),
        ("bad/bomb-30000x30000.png", 422, "image_too_many_pixels"),
    ] {
        let bytes = fixtures::read(file);
        let upload = sign_upload(&stack, &bytes).await;
        assert_eq!(put(&upload, bytes, &[]).await, 200, "{file}");
        submit_job_with(&stack, &upload["image"])
            .await
            .problem(status, code);
        let image = upload["image"].as_str().unwrap();
        let asked = stack.client.get(&format!("/v1/images/{image}")).await;
        asked.problem(404, "not_found");
    }
}

/// The bytes do not pass through the API: a signed upload counts from its signature.
#[tokio::test]
async fn signed_uploads_cannot_exceed_the_cap_on_stored_bytes() {
    let stack = Stack::without_workers().await;
    let capped = client_with_room(&stack, 1_000_000).await;
    let sign = async |image: u8| sign_digest(&capped, &[image], 900_000).await;
    let mut statuses = Vec::new();
    for image in 0..30 {
        statuses.push(sign(image).await.status);
    }
    assert_eq!(statuses[0], 201);
    assert_eq!(statuses[1..], [429; 29]);
    let refused = sign(29).await;
    refused.problem(429, "quota_exceeded");
    assert!(refused.header("retry-after").is_some());
    let again = sign(0).await;
    assert_eq!(again.status, 201, "a repeated request needs no more room");
    let small = sign_digest(&capped, b"small", 100_000).await;
    assert_eq!(small.status, 201, "the rest of the room can be used");
}

/// The row of the image counts from the moment when a job names the upload.
#[tokio::test]
async fn a_signed_upload_that_became_an_image_counts_once() {
    let stack = Stack::without_workers().await;
    let (cat, small) = (fixtures::photo("cat.jpg"), fixtures::photo("cat.webp"));
    let capped = client_with_room(&stack, cat.len() + small.len()).await;
    let name = async |bytes: &[u8]| {
        let body = json!({"image": {"sha256": Sha256Digest::of(bytes)}});
        capped.post_json("/v1/jobs", &body).await
    };
    for photo in [&cat, &small] {
        let upload = sign_digest(&capped, photo, photo.len()).await;
        assert_eq!(upload.status, 201, "{}", upload.text());
        assert_eq!(put(&upload.json(), photo.clone(), &[]).await, 200);
        assert_eq!(name(photo).await.status, 202);
        let stored = sign_digest(&capped, photo, photo.len()).await;
        assert_eq!(stored.json()["stored"], true);
    }
    let more = sign_digest(&capped, b"more", 1).await;
    more.problem(429, "quota_exceeded");
}

#[tokio::test]
async fn an_owner_may_have_a_limited_number_of_signed_uploads() {
    let stack = Stack::without_workers_but(&[("DARKROOM_SIGNED_UPLOADS_MAX", "2")]).await;
    for (image, status) in [(b"a", 201), (b"b", 201), (b"c", 429), (b"a", 201)] {
        let signed = sign_digest(&stack.client, image, 10).await;
        assert_eq!(signed.status, status, "{image:?}: {}", signed.text());
    }
    let bob = stack.client_of("bob", &[Scope::Submit, Scope::Read]).await;
    assert_eq!(sign_digest(&bob, b"c", 10).await.status, 201);
}

/// Signs an upload with the digest of `named`, of any length.
async fn sign_digest(client: &Client, named: &[u8], bytes: usize) -> Answer {
    let sha256 = Sha256Digest::of(named);
    let body = json!({"sha256": sha256, "bytes": bytes, "content_type": "image/jpeg"});
    client.post_json("/v1/uploads", &body).await
}

/// The end of every signed upload comes, as if its URL had expired and its time to be named were over.
async fn uploads_lapsed(stack: &Stack) {
    let lapse = "update signed_uploads set expires_at = now() - interval '1 h', lapses_at = now() - interval '1 h'";
    sqlx::query(lapse).execute(&*stack.db).await.unwrap();
}

async fn keys_of_images(stack: &Stack) -> Vec<String> {
    let objects = stack.store.list("images/", "", 100).await.unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn a_deleted_image_does_not_come_back_by_its_signed_uploads() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let delete = async |image: &Value| {
        let path = format!("/v1/images/{}", image.as_str().unwrap());
        let deleted = send(stack.client.request(Method::DELETE, &path)).await;
        let found = stack.client.get(&path).await;
        (deleted.status, found.status)
    };
    // Two uploads of one image: the second is signed after the first has become the image of a deleted row.
    let first = sign_upload(&stack, &photo).await;
    assert_eq!(put(&first, photo.clone(), &[]).await, 200);
    assert_eq!(
        delete(&first["image"]).await,
        (204, 404),
        "also an upload that no request has named is deleted"
    );
    let second = sign_upload(&stack, &photo).await;
    assert_ne!(
        second["url"], first["url"],
        "a deleted upload is not signed again"
    );
    for upload in [&first, &second] {
        assert_eq!(put(upload, photo.clone(), &[]).await, 200);
    }
    let path = format!("/v1/images/{}", first["image"].as_str().unwrap());
    assert_eq!(stack.client.get(&path).await.status, 200);
    assert_eq!(delete(&first["image"]).await, (204, 404));
    assert_eq!(keys_of_images(&stack).await, [""; 0]);

    // Both URLs are still valid, and both uploads are void.
    for upload in [&first, &second] {
        assert_eq!(put(upload, photo.clone(), &[]).await, 200);
        assert_eq!(delete(&upload["image"]).await, (404, 404));
        let named = submit_job_with(&stack, &upload["image"]).await;
        named.problem(404, "not_found");
    }
    uploads_lapsed(&stack).await;
    let swept = images::sweep_signed_uploads(&stack.db, &stack.store).await;
    assert_eq!(swept.unwrap(), 2);
    assert_eq!(keys_of_images(&stack).await, [""; 0]);
}

/// Objects without a row are of submits that are under way, or that lost a race.
#[tokio::test]
async fn a_delete_removes_every_object_of_the_digest() {
    let stack = Stack::without_workers().await;
    let (photo, other) = (fixtures::photo("cat.jpg"), fixtures::photo("coffee.jpg"));
    let post = async |photo: &[u8]| {
        let request = stack.client.request(Method::POST, "/v1/images");
        send(request.body(photo.to_vec())).await.json()["image"].clone()
    };
    let image = post(&photo).await;
    post(&other).await;
    store_object(&stack, &photo, Uuid::now_v7(), &photo).await;
    assert_eq!(keys_of_images(&stack).await.len(), 3);
    let path = format!("/v1/images/{}", image.as_str().unwrap());
    let deleted = send(stack.client.request(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, 204);
    let left = keys_of_images(&stack).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].contains(&Sha256Digest::of(&other).hex()));
}

/// Stores `bytes` where the object of the image `named` is, or would be.
async fn store_object(stack: &Stack, named: &[u8], upload: Uuid, bytes: &[u8]) {
    let key = images::object_key(given::OWNER, Sha256Digest::of(named), upload);
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let put = stack.store.put(
        &key,
        Body::Memory(&bytes),
        Sha256Digest::of(&bytes),
        "image/jpeg",
    );
    put.await.unwrap();
}

/// Otherwise a client could store any number of bytes: sign, delete, sign the next one, and use all URLs.
#[tokio::test]
async fn a_deleted_signed_upload_counts_until_its_url_has_expired() {
    let stack = Stack::without_workers().await;
    let capped = client_with_room(&stack, 1000).await;
    assert_eq!(sign_digest(&capped, b"a", 900).await.status, 201);
    let path = format!("/v1/images/{}", Sha256Digest::of(b"a"));
    let deleted = send(capped.request(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, 204);
    let other = sign_digest(&capped, b"b", 900).await;
    other.problem(429, "quota_exceeded");
    uploads_lapsed(&stack).await;
    let swept = images::sweep_signed_uploads(&stack.db, &stack.store).await;
    assert_eq!(swept.unwrap(), 1);
    tests::eventually(Duration::from_secs(20), "there is room", || async {
        (sign_digest(&capped, b"b", 900).await.status == 201).then_some(())
    })
    .await;
}

/// Some stores accept a signed PUT of other bytes. The test puts these bytes as its own client of the store.
#[tokio::test]
async fn bytes_that_do_not_have_the_signed_digest_are_not_taken() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = photo.clone();
        change(&mut bytes);
        bytes
    };
    for other in [
        changed(|bytes| *bytes.last_mut().unwrap() ^= 1),
        changed(|bytes| bytes.push(0)),
        changed(|bytes| bytes.truncate(1000)),
    ] {
        let upload = sign_upload(&stack, &photo).await;
        let signed = sqlx::query_scalar("select upload from signed_uploads");
        let signed: Uuid = signed.fetch_one(&*stack.db).await.unwrap();
        store_object(&stack, &photo, signed, &other).await;
        let refused = submit_job_with(&stack, &upload["image"]).await;
        let problem = refused.problem(404, "not_found");
        assert_eq!(problem["errors"][0]["code"], "other_bytes", "{problem:#}");
        assert_eq!(keys_of_images(&stack).await, [""; 0], "deleted at once");
    }
    let upload = sign_upload(&stack, &photo).await;
    assert_eq!(put(&upload, photo, &[]).await, 200);
    assert_eq!(submit_job_with(&stack, &upload["image"]).await.status, 202);
}

/// A client of the owner `shop` whose key may store up to `stored_bytes_max` bytes.
async fn client_with_room(stack: &Stack, stored_bytes_max: usize) -> Client {
    let limits = json!({"stored_bytes_max": stored_bytes_max});
    let wanted =
        json!({"name": "test", "owner": "shop", "scopes": ["submit", "read"], "limits": limits});
    let made = stack.client.post_json("/v1/api_keys", &wanted).await;
    assert_eq!(made.status, 201, "{}", made.text());
    stack.client_with(made.json()["key"].as_str())
}

/// The header is longer than the part that the API reads first.
#[tokio::test]
async fn an_image_with_a_long_header_is_accepted() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let comment = [&[0xff, 0xfe, 0xff, 0xff][..], &vec![b' '; 65_533]].concat();
    let long = [&photo[..2], &comment.repeat(3), &photo[2..]].concat();
    let upload = sign_upload(&stack, &long).await;
    assert_eq!(put(&upload, long, &[]).await, 200);
    assert_eq!(submit_job_with(&stack, &upload["image"]).await.status, 202);
}

#[tokio::test]
async fn an_upload_that_cannot_be_an_image_is_not_signed() {
    let stack = Stack::without_workers().await;
    let sha256 = Sha256Digest::of(b"x");
    let post = async |bytes: i64, kind: &str| {
        let body = json!({"sha256": sha256, "bytes": bytes, "content_type": kind});
        stack.client.post_json("/v1/uploads", &body).await
    };
    let too_large = post(20_000_001, "image/jpeg").await;
    too_large.problem(413, "image_too_large");
    let other = post(1, "image/tiff").await;
    other.problem(415, "unsupported_media_type");
    post(0, "image/jpeg")
        .await
        .problem_at(422, "invalid_params", "/bytes");
    let body = json!({"sha256": "cat.jpg", "bytes": 1, "content_type": "image/jpeg"});
    let nameless = stack.client.post_json("/v1/uploads", &body).await;
    nameless.problem_at(422, "invalid_params", "/sha256");
}

#[tokio::test]
async fn a_signed_upload_that_no_job_names_is_swept_when_it_has_lapsed() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let upload = sign_upload(&stack, &photo).await;
    assert_eq!(put(&upload, photo.clone(), &[]).await, 200);
    let swept = orphans::sweep(&stack.db, &stack.store, -60.0, -1.0).await;
    assert_eq!(swept.unwrap(), Some(0), "it can still be named");
    let swept = images::sweep_signed_uploads(&stack.db, &stack.store).await;
    assert_eq!(swept.unwrap(), 0);
    uploads_lapsed(&stack).await;
    submit_job_with(&stack, &upload["image"])
        .await
        .problem(404, "not_found");
    let swept = images::sweep_signed_uploads(&stack.db, &stack.store).await;
    assert_eq!(swept.unwrap(), 1);
    assert_eq!(keys_of_images(&stack).await, [""; 0]);
    submit_job_with(&stack, &upload["image"])
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn the_sweep_of_signed_uploads_keeps_their_images() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("cat.jpg");
    let upload = sign_upload(&stack, &photo).await;
    assert_eq!(put(&upload, photo, &[]).await, 200);
    assert_eq!(submit_job_with(&stack, &upload["image"]).await.status, 202);
    uploads_lapsed(&stack).await;
    let swept = images::sweep_signed_uploads(&stack.db, &stack.store).await;
    assert_eq!(swept.unwrap(), 1);
    assert_eq!(keys_of_images(&stack).await.len(), 1);
}

#[tokio::test]
async fn an_image_is_stored_shown_downloaded_and_deleted() {
    let stack = Stack::without_workers().await;
    let photo = fixtures::photo("coffee.jpg");
    let post = || {
        send(
            stack
                .client
                .request(Method::POST, "/v1/images")
                .body(photo.clone()),
        )
    };
    let made = post().await;
    assert_eq!(made.status, 201, "{}", made.text());
    let image = made.json();
    let name = image["image"].as_str().unwrap();
    let path = format!("/v1/images/{name}");
    assert_eq!(made.header("location"), Some(path.as_str()));
    assert_eq!(post().await.status, 200, "the image is stored already");
    assert_eq!(stack.client.get(&path).await.json(), image);
    let bare = format!("/v1/images/{}", name.trim_start_matches("sha256:"));
    assert_eq!(stack.client.get(&bare).await.json(), image);

    let redirect = stack.client.get(&format!("{path}/content")).await;
    assert_eq!(redirect.status, 303);
    let content = reqwest::get(redirect.header("location").unwrap())
        .await
        .unwrap();
    let disposition = content.headers()["content-disposition"].to_str().unwrap();
    assert!(
        disposition.starts_with("attachment; filename="),
        "{disposition}"
    );
    assert_eq!(content.bytes().await.unwrap(), photo);

    let delete = || send(stack.client.request(Method::DELETE, &path));
    assert_eq!(delete().await.status, 204);
    delete().await.problem(404, "not_found");
    stack.client.get(&path).await.problem(404, "not_found");
    assert_eq!(post().await.status, 201, "a deleted image can come back");
}

#[tokio::test]
async fn an_image_that_a_live_job_needs_is_not_deleted() {
    let stack = Stack::without_workers().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let image = job["input"]["image"].as_str().unwrap();
    let delete = || {
        send(
            stack
                .client
                .request(Method::DELETE, &format!("/v1/images/{image}")),
        )
    };
    delete().await.problem(409, "job_not_finished");
    let held = given::claimed_by(&stack.db, "w").await;
    delete().await.problem(409, "job_not_finished");
    tests::settling::complete(&stack.db, &[held.completion("cat")])
        .await
        .unwrap();
    assert_eq!(delete().await.status, 204);
    let id = job["id"].as_str().unwrap();
    assert_eq!(
        stack.client.job(id).await["result"],
        json!({"answer": "cat"})
    );
    let retried = queue::retry(&stack.db, id.parse::<JobId>().unwrap(), None).await;
    assert_eq!(retried.unwrap(), queue::RetryOutcome::Succeeded);
    submit_job_with(&stack, &json!(image))
        .await
        .problem(404, "not_found");
    assert_eq!(
        stack.client.submit("", fixtures::photo("cat.jpg")).await["cache"],
        "miss"
    );
}

#[tokio::test]
async fn an_image_of_another_owner_answers_404() {
    let stack = Stack::without_workers().await;
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    stack.client.cancel(job["id"].as_str().unwrap()).await;
    let image = job["input"]["image"].as_str().unwrap();
    let bob = stack.client_of("bob", &[Scope::Submit, Scope::Read]).await;
    for path in [
        format!("/v1/images/{image}"),
        format!("/v1/images/{image}/content"),
    ] {
        bob.get(&path).await.problem(404, "not_found");
    }
    let delete = bob.request(Method::DELETE, &format!("/v1/images/{image}"));
    send(delete).await.problem(404, "not_found");
    bob.get("/v1/images/cat.jpg")
        .await
        .problem(404, "not_found");
}
