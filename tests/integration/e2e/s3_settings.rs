//! Endpoints, credentials and authorities from wherever the AWS settings have them.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use jobs::Sha256Digest;
use serde_json::json;
use tempfile::TempDir;
use tests::{Client, Stack, eventually, fixtures};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// A folder with a file `config` for the AWS libraries.
fn profile(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[tokio::test]
async fn an_endpoint_by_any_setting_is_asked_in_path_style() {
    let stack = Stack::bare(&[]).await;
    let endpoint = variable("AWS_ENDPOINT_URL_S3");
    // "localhost" is no IP address, so only the setting makes the SDK use path style.
    let endpoint = endpoint.replace("127.0.0.1", "localhost");
    let (_one, of_profile) = profile(&format!("[profile local]\nendpoint_url = {endpoint}\n"));
    let (_two, of_service) = profile(&format!(
        "[profile local]\nservices = here\n\n[services here]\ns3 =\n  endpoint_url = {endpoint}\n"
    ));
    for more in [
        vec![("AWS_ENDPOINT_URL", endpoint.as_str())],
        vec![
            ("AWS_CONFIG_FILE", of_profile.as_str()),
            ("AWS_PROFILE", "local"),
        ],
        vec![
            ("AWS_CONFIG_FILE", of_service.as_str()),
            ("AWS_PROFILE", "local"),
        ],
    ] {
        let mut env = vec![("AWS_ENDPOINT_URL_S3", "")];
        env.extend(more);
        let _ready = stack.another_api(&env).await;
    }
}

#[tokio::test]
async fn credentials_of_a_process_work_and_signed_urls_expire_with_them() {
    let stack = Stack::bare(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("credentials");
    let answer = json!({
        "Version": 1, "AccessKeyId": variable("AWS_ACCESS_KEY_ID"), "SecretAccessKey": variable("AWS_SECRET_ACCESS_KEY"),
        "Expiration": "WHEN",
    });
    let answer = answer.to_string().replace("WHEN", "'$when'");
    let text = format!(
        "#!/bin/sh\nwhen=$(date -u -d '+90 seconds' +%Y-%m-%dT%H:%M:%SZ)\necho '{answer}'\n"
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (_config, config) = profile(&format!(
        "[profile short]\ncredential_process = {}\n",
        script.display()
    ));
    let api = stack
        .another_api(&[
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_CONFIG_FILE", config.as_str()),
            ("AWS_PROFILE", "short"),
        ])
        .await;
    let client = Client::new(&api.url, Some(stack.key().await));
    let photo = fixtures::photo("cat.jpg");
    let body = json!({
        "sha256": Sha256Digest::of(&photo), "bytes": photo.len(), "content_type": "image/jpeg"
    });
    let upload = client.post_json("/v1/uploads", &body).await.json();
    let expires_at: DateTime<Utc> = upload["expires_at"].as_str().unwrap().parse().unwrap();
    let left = expires_at - Utc::now();
    assert!(left <= TimeDelta::seconds(90), "{left}");
    assert!(left > TimeDelta::zero(), "{left}");
    let url = reqwest::Url::parse(upload["url"].as_str().unwrap()).unwrap();
    let seconds = url.query_pairs().find(|(name, _)| name == "X-Amz-Expires");
    let seconds: i64 = seconds.unwrap().1.parse().unwrap();
    assert!(seconds <= 90, "{seconds}");
}

#[tokio::test]
async fn a_signed_upload_asks_for_the_encryption_of_the_settings() {
    let stack = Stack::bare(&[("DARKROOM_S3_KMS_KEY", "alias/darkroom")]).await;
    let photo = fixtures::photo("cat.jpg");
    let body = json!({
        "sha256": Sha256Digest::of(&photo), "bytes": photo.len(), "content_type": "image/jpeg"
    });
    let upload = stack.client.post_json("/v1/uploads", &body).await.json();
    let header = |name: &str| upload["headers"][name].clone();
    assert_eq!(header("x-amz-server-side-encryption"), "aws:kms");
    let key = header("x-amz-server-side-encryption-aws-kms-key-id");
    assert_eq!(key, "alias/darkroom");
}

#[tokio::test]
async fn a_program_with_an_unusable_ca_bundle_ends_and_names_the_variable() {
    let stack = Stack::bare(&[]).await;
    let api = stack.spawn_api(&[("AWS_CA_BUNDLE", "/nonexistent/ca.pem")]);
    eventually(Duration::from_secs(20), "the end of the API", || async {
        (!api.is_running()).then_some(())
    })
    .await;
    let said = "AWS_CA_BUNDLE: /nonexistent/ca.pem";
    assert!(api.log().contains(said), "{}", api.log());
}
