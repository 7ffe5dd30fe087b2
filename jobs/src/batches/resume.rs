use std::collections::HashSet;

use sqlx::PgPool;

use super::Writer;
use crate::{BatchId, Sha256Digest, queue::QueueError};

/// Where an upload under a used idempotency key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeOutcome {
    /// The first one broke off: go on behind its last line.
    From {
        writer: Writer,
        lines: i32,
        sha256: Option<Sha256Digest>,
    },
    /// The first one came to its end.
    Complete {
        lines: i32,
        sha256: Option<Sha256Digest>,
    },
    /// The first one still goes on.
    InFlight,
    /// The owner has no such batch.
    NotFound,
}

/// Takes a batch over from an upload that broke off, or that nobody heard of for `silent_seconds`.
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

/// Lines behind the last one noted that are jobs all the same: the first upload broke off in between.
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
