//! `/v1/batches`: requests and answers that are larger than one job.

use bytes::Bytes;
use reqwest::{Method, header};
use serde_json::Value;

use super::{CallError, Client};
use crate::{failure::Failure, plain, service::patience::Repeat};

/// How long the service keeps a stream of results open for more of them.
const STREAM_SECONDS: u64 = 60;

impl Client {
    /// The same lines under the same key are one batch.
    pub(crate) async fn submit_batch(&self, lines: Bytes, key: &str) -> Result<String, CallError> {
        let build = || {
            self.request(Method::POST, "/v1/batches")
                .header(header::CONTENT_TYPE, "application/x-ndjson")
                .header("Idempotency-Key", key)
                .body(lines.clone())
        };
        Ok(self.call(Repeat::Freely, build).await?.text)
    }

    /// Prints the results of a batch as they come in; with `wait` until it has ended, through breaks of the connection.
    pub(crate) async fn print_batch_results(&self, id: &str, wait: bool) -> Result<(), Failure> {
        let mut after = 0;
        loop {
            let batch = self.get_json(&format!("/v1/batches/{id}")).await?;
            let is_over = batch["status"] != "running";
            let whole = self.print_results_behind(id, &mut after, wait).await?;
            if whole && (is_over || !wait) {
                return Ok(());
            }
        }
    }

    /// One answer of results; `false` if it broke off. `after` is the last line that was printed.
    async fn print_results_behind(
        &self,
        id: &str,
        after: &mut i64,
        wait: bool,
    ) -> Result<bool, Failure> {
        let path = format!("/v1/batches/{id}/results?after={after}");
        let build = || {
            let request = self.request(Method::GET, &path);
            if wait {
                request.header("Prefer", format!("wait={STREAM_SECONDS}"))
            } else {
                request
            }
        };
        let mut answer = self.begun(Repeat::Freely, build).await?;
        let mut rest = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(part)) => rest.extend_from_slice(&part),
                Ok(None) => return Ok(rest.is_empty()),
                Err(_) => return Ok(false),
            }
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line[..end]);
                let result: Value = plain::read_json(&text)?;
                plain::line(&text)?;
                *after = result["line"].as_i64().unwrap_or(*after);
            }
        }
    }
}
