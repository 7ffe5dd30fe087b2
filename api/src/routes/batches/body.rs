//! A batch as clients read it.

use chrono::{DateTime, Utc};
use jobs::{
    BatchId, Sha256Digest,
    batches::{Batch, BatchStatus, Counts, Upload},
    rfc3339::{micros, some_micros},
};
use serde::{Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

/// Many images that were submitted together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchBody {
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "batch_0198f3c2a1b47d1e8c55a0f3d2e1b4c7")]
    id: BatchId,
    #[schema(example = "batch")]
    object: &'static str,
    status: BatchStatus,
    /// Whether all lines have been uploaded.
    upload: Upload,
    /// The lines, counted by their state.
    counts: Counts,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel_requested: bool,
    #[schema(value_type = Object)]
    metadata: Value,
    #[serde(serialize_with = "micros")]
    created_at: DateTime<Utc>,
    /// When the last job ended; empty until then.
    #[serde(serialize_with = "some_micros")]
    finished_at: Option<DateTime<Utc>>,
    urls: BatchUrls,
}

#[derive(Debug, Serialize, ToSchema)]
struct BatchUrls {
    #[serde(rename = "self")]
    this: String,
    results: String,
    jobs: String,
    cancel: String,
    retry_failed: String,
}

fn as_text<S: Serializer>(id: &BatchId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl From<Batch> for BatchBody {
    fn from(batch: Batch) -> Self {
        let this = format!("/v1/batches/{}", batch.id);
        Self {
            id: batch.id,
            object: "batch",
            status: batch.status(),
            upload: batch.upload,
            counts: batch.counts,
            cancel_requested: batch.cancel_requested,
            metadata: batch.metadata,
            created_at: batch.created_at,
            finished_at: batch.finished_at,
            urls: BatchUrls {
                results: format!("{this}/results"),
                jobs: format!("/v1/jobs?batch_id={}", batch.id),
                cancel: format!("{this}/cancel"),
                retry_failed: format!("{this}/retry_failed"),
                this,
            },
        }
    }
}

/// The strong `ETag` of a batch: a digest of all fields that can change.
pub(crate) fn etag(batch: &Batch) -> String {
    let changing = format!(
        "{:?} {:?} {} {:?}",
        batch.counts, batch.upload, batch.cancel_requested, batch.finished_at
    );
    format!("\"{}\"", &Sha256Digest::of(changing.as_bytes()).hex()[..16])
}
