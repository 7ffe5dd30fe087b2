use sqlx::PgPool;

use super::Writer;
use crate::{Problem, Sha256Digest, queue::QueueError};

/// Some lines of a batch whose jobs are committed.
#[derive(Debug)]
pub struct Chunk {
    /// Lines taken with this chunk, from the first of the batch on.
    pub lines: i32,
    /// Of all of them.
    pub sha256: Sha256Digest,
    pub refused: Vec<Refusal>,
}

/// A line that will be no job.
#[derive(Debug)]
pub struct Refusal {
    /// Number of the line, from 1.
    pub position: i32,
    pub custom_id: Option<String>,
    pub problem: Problem,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    Taken,
    /// A cancel of the batch was asked for: no use in more lines.
    Canceled,
    /// The batch is another upload's now, or sealed: nothing was written.
    Lost,
}

/// Notes that these lines are taken.
///
/// # Errors
/// Postgres is away.
pub async fn append(
    db: &PgPool,
    writer: Writer,
    chunk: &Chunk,
) -> Result<AppendOutcome, QueueError> {
    let positions: Vec<_> = chunk.refused.iter().map(|one| one.position).collect();
    let custom_ids: Vec<_> = (chunk.refused.iter())
        .map(|one| one.custom_id.clone())
        .collect();
    let problems: Vec<_> = (chunk.refused.iter())
        .map(|one| one.problem.to_json())
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
