//! A batch as clients read it.

use jobs::{
    Sha256Digest,
    batches::{Batch, Counts},
};
use wire::{BatchCounts, BatchUrls, Object};

/// The JSON of a batch.
pub(crate) fn batch_body(batch: Batch) -> wire::Batch {
    wire::Batch {
        id: batch.id.to_string(),
        object: Object::Batch,
        status: batch.status(),
        upload: batch.upload,
        counts: counts(batch.counts),
        cancel_requested: batch.cancel_requested,
        metadata: batch.metadata,
        created_at: batch.created_at,
        finished_at: batch.finished_at,
        urls: BatchUrls::new(batch.id),
    }
}

fn counts(counts: Counts) -> BatchCounts {
    BatchCounts {
        total: counts.total,
        queued: counts.queued,
        running: counts.running,
        scheduled: counts.scheduled,
        succeeded: counts.succeeded,
        failed: counts.failed,
        canceled: counts.canceled,
        expired: counts.expired,
        refused: counts.refused,
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
