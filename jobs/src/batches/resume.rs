use std::collections::HashSet;

use sqlx::PgPool;

use super::Writer;
use crate::{BatchId, Sha256Digest, queue::QueueError};

/// Result of [`resume`]: how far the first upload under the idempotency key came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeOutcome {
    /// The first upload ended early: continue after line `lines`.
    From {
        writer: Writer,
        lines: i32,
        sha256: Option<Sha256Digest>,
    },
    /// The first upload is complete.
    Complete {
        lines: i32,
        sha256: Option<Sha256Digest>,
    },
    /// The first upload still runs.
    InFlight,
    /// The owner has no such batch.
    NotFound,
}

/// Takes a batch over from an upload that ended early, or that appended nothing for `silent_seconds`.
///
/// # Errors
/// Postgres is away.
pub async fn resume(
    db: &PgPool,
    batch: BatchId,
    owner: &str,
    silent_seconds: f64,
) -> Result<ResumeOutcome, QueueError> {
    let row = sqlx::query_file!(
        "src/batches/resume.sql",
        batch.uuid(),
        owner,
        silent_seconds
    );
    let Some(row) = row.fetch_optional(db).await? else {
        return Ok(ResumeOutcome::NotFound);
    };
    let digest = row.upload_sha256.as_deref().map(Sha256Digest::try_from);
    let sha256 = digest
        .transpose()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let lines = row.lines;
    Ok(match row.upload_no {
        Some(upload_no) => ResumeOutcome::From {
            writer: Writer { batch, upload_no },
            lines,
            sha256,
        },
        None if row.is_sealed => ResumeOutcome::Complete { lines, sha256 },
        None => ResumeOutcome::InFlight,
    })
}

/// Lines after line `lines` that are jobs already: the first upload ended between the commit of a chunk's jobs and
/// [`append`](super::append()).
///
/// # Errors
/// Postgres is away.
pub async fn taken_beyond(
    db: &PgPool,
    batch: BatchId,
    lines: i32,
) -> Result<HashSet<i32>, QueueError> {
    let taken = sqlx::query_scalar!(
        r#"select batch_line as "position!" from live_jobs where batch_id = $1 and batch_line > $2
           union
           select batch_line from finished_jobs where batch_id = $1 and batch_line > $2"#,
        batch.uuid(),
        lines
    );
    Ok(taken.fetch_all(db).await?.into_iter().collect())
}
