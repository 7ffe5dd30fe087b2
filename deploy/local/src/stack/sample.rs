//! Sends one photo through the public API, as any client would: this proves that the whole stack works.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use reqwest::Client;
use serde_json::Value;

use super::control::StackAccess;

pub(super) const PHOTO: &str = "tests/fixtures/photos/coffee.jpg";
pub(super) const MODEL: &str = "efficientnet-lite0";

/// Includes the time to load the model, which the first job of a worker needs.
const RESULT_WITHIN: Duration = Duration::from_mins(1);

/// Uploads the photo, waits for its labels and prints them.
pub(super) async fn classify(access: &StackAccess) -> anyhow::Result<()> {
    let path = crate::checkout()?.join(PHOTO);
    let photo = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let http = Client::builder().timeout(Duration::from_secs(30)).build()?;
    let began = Instant::now();
    let upload = http
        .post(format!("{}/v1/jobs?model={MODEL}", access.url))
        .bearer_auth(&access.api_key)
        .header("content-type", "image/jpeg")
        // Without this, the API could return a prediction that an earlier `up` has made.
        .header("cache-control", "no-cache")
        .body(photo);
    let mut job = send(upload).await?;
    while !matches!(
        job["status"].as_str(),
        Some("succeeded" | "failed" | "canceled" | "expired")
    ) {
        if began.elapsed() > RESULT_WITHIN {
            bail!(
                "no result after {RESULT_WITHIN:?}; the job is {}",
                job["status"]
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let id = job["id"]
            .as_str()
            .context("a job without an id")?
            .to_owned();
        let poll = http
            .get(format!("{}/v1/jobs/{id}", access.url))
            .bearer_auth(&access.api_key);
        job = send(poll).await?;
    }
    let Some(labels) = job["result"]["labels"].as_array() else {
        bail!("the job ended without labels: {job:#}");
    };
    println!(
        "\n{PHOTO}, classified in {} ms:",
        began.elapsed().as_millis()
    );
    for label in labels {
        let score = label["score"].as_f64().unwrap_or_default();
        println!(
            "  {score:.3}  {}",
            label["label"].as_str().unwrap_or_default()
        );
    }
    Ok(())
}

/// Sends a request and parses the JSON body of the response.
async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.text().await?;
    if !status.is_success() {
        bail!("the API answered {status}: {body}");
    }
    serde_json::from_str(&body).with_context(|| format!("the API answered {status}: {body}"))
}
