//! Batches: jobs that were submitted together, in numbered lines. One verb a file.
//!
//! A batch costs its jobs nothing: no statement that moves a job reads it. Its counts are computed by index on request, once for all
//! that ask ([`BatchFinder`]), and stored when the batch has ended.

mod append;
mod batch;
mod begin;
mod cancel;
mod finder;
mod finish;
mod housekeeping;
mod list;
mod prune;
mod results;
mod resume;
mod retry_failed;
mod seal;

pub use append::{AppendOutcome, Chunk, Refusal, append};
pub use batch::{Batch, BatchHead, Counts, find, find_all, find_head};
pub use begin::{BeginOutcome, begin};
pub use cancel::{cancel, cancel_some};
pub use finder::BatchFinder;
pub use finish::finish_due;
pub use housekeeping::{BatchesConfig, housekeep};
pub use list::list;
pub use prune::prune;
pub use results::{Line, LineOutcome, results};
pub use resume::{ResumeOutcome, resume, taken_beyond};
pub use retry_failed::retry_failed;
pub use seal::{seal, seal_abandoned};
pub use wire::{BatchStatus, BatchUpload};

use crate::BatchId;

/// The right of one upload to append lines to a batch. An upload that resumes the batch gets another number, so the earlier
/// upload can append no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    pub batch: BatchId,
    pub upload_no: i32,
}
