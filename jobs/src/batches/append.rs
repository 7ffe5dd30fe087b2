use sqlx::PgPool;

use super::Writer;
use crate::{Problem, Sha256Digest, queue::QueueError};

/// The next lines of a batch, whose jobs are committed.
#[derive(Debug)]
pub struct Chunk {
    /// Number of lines of the batch so far, this chunk included.
    pub lines: i32,
    /// Digest of all those lines.
    pub sha256: Sha256Digest,
    pub refused: Vec<Refusal>,
}

/// A line that did not become a job.
#[derive(Debug)]
pub struct Refusal {
    /// Number of the line, from 1.
    pub position: i32,
    pub custom_id: Option<String>,
    pub problem: Problem,
}

/// Result of [`append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    Taken,
    /// A cancel of the batch was requested: more lines are useless.
    Canceled,
    /// The batch belongs to another upload now, or is sealed: nothing was written.
    Lost,
}

/// Records the lines of a chunk in their batch.
///
/// # Errors
/// Postgres is away.
pub async fn append(
    db: &PgPool,
    writer: Writer,
    chunk: &Chunk,
) -> Result<AppendOutcome, QueueError> {
    let positions: Vec<_> = chunk
        .refused
        .iter()
        .map(|refusal| refusal.position)
        .collect();
    let custom_ids: Vec<_> = (chunk.refused.iter())
        .map(|refusal| refusal.custom_id.clone())
        .collect();
    let problems: Vec<_> = (chunk.refused.iter())
        .map(|refusal| refusal.problem.to_json())
        .collect();
    let canceled = sqlx::query_file_scalar!(
        "src/batches/append.sql",
        writer.batch.uuid(),
        writer.upload_no,
        chunk.lines,
        chunk.sha256.as_bytes().as_slice(),
        &positions,
        &custom_ids as &[Option<String>],
        &problems,
    );
    Ok(match canceled.fetch_optional(db).await? {
        Some(false) => AppendOutcome::Taken,
        Some(true) => AppendOutcome::Canceled,
        None => AppendOutcome::Lost,
    })
}
