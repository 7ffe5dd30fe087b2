use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;
use wire::{BatchStatus, BatchUpload};

use crate::{BatchId, queue::QueueError};

/// A batch as its owner sees it.
#[derive(Debug, Clone)]
pub struct Batch {
    pub id: BatchId,
    pub metadata: Value,
    pub created_at: DateTime<Utc>,
    pub upload: BatchUpload,
    pub cancel_requested: bool,
    pub finished_at: Option<DateTime<Utc>>,
    pub counts: Counts,
}

/// How many lines of a batch are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Lines taken so far.
    pub total: i64,
    pub queued: i64,
    pub running: i64,
    pub scheduled: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub canceled: i64,
    pub expired: i64,
    /// Lines that did not become jobs.
    pub refused: i64,
}

impl Batch {
    pub fn status(&self) -> BatchStatus {
        let counts = &self.counts;
        if self.finished_at.is_none() {
            BatchStatus::Running
        } else if counts.canceled > 0 && (self.cancel_requested || counts.canceled == counts.total)
        {
            BatchStatus::Canceled
        } else if counts.succeeded == counts.total && self.upload == BatchUpload::Complete {
            BatchStatus::Succeeded
        } else if counts.succeeded == 0 {
            BatchStatus::Failed
        } else {
            BatchStatus::PartlyFailed
        }
    }

    pub fn has_ended(&self) -> bool {
        self.finished_at.is_some()
    }

    /// Whether the batch can be ended: no job waits or runs, and no line can follow.
    fn is_due(&self) -> bool {
        let live = self.counts.queued + self.counts.running + self.counts.scheduled;
        !self.has_ended() && self.upload != BatchUpload::Open && live == 0
    }
}

/// One row of `find.sql` or `list.sql`.
pub(super) struct BatchRow {
    pub batch_id: Uuid,
    pub metadata: Value,
    pub created_at: DateTime<Utc>,
    pub is_sealed: bool,
    pub broke_off: bool,
    pub cancel_requested: bool,
    pub finished_at: Option<DateTime<Utc>>,
    pub lines: i32,
    pub refused: i32,
    pub queued: i64,
    pub running: i64,
    pub scheduled: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub canceled: i64,
    pub expired: i64,
}

impl From<BatchRow> for Batch {
    fn from(row: BatchRow) -> Self {
        Self {
            id: row.batch_id.into(),
            metadata: row.metadata,
            created_at: row.created_at,
            upload: upload(row.is_sealed, row.broke_off),
            cancel_requested: row.cancel_requested,
            finished_at: row.finished_at,
            counts: Counts {
                total: row.lines.into(),
                queued: row.queued,
                running: row.running,
                scheduled: row.scheduled,
                succeeded: row.succeeded,
                failed: row.failed,
                canceled: row.canceled,
                expired: row.expired,
                refused: row.refused.into(),
            },
        }
    }
}

/// A batch of `owner`; `None` for a batch of another owner. Ends the batch first if that is due. While the batch runs, its jobs
/// are counted: where many callers may ask, use [`BatchFinder`](super::BatchFinder).
///
/// # Errors
/// Postgres is away.
pub async fn find(
    db: &mut PgConnection,
    batch: BatchId,
    owner: &str,
) -> Result<Option<Batch>, QueueError> {
    let found = find_all(&mut *db, &[batch], owner).await?.pop();
    if found.as_ref().is_some_and(Batch::is_due) && super::finish::finish(&mut *db, batch).await? {
        return Ok(find_all(db, &[batch], owner).await?.pop());
    }
    Ok(found)
}

/// Those of `batches` that belong to `owner`, in any order. Ends no batch.
///
/// # Errors
/// Postgres is away.
pub async fn find_all(
    db: impl PgExecutor<'_>,
    batches: &[BatchId],
    owner: &str,
) -> Result<Vec<Batch>, QueueError> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = batches.iter().map(|batch| batch.uuid()).collect();
    let rows = sqlx::query_file_as!(BatchRow, "src/batches/find.sql", &ids, owner);
    let rows = rows.fetch_all(db).await?;
    Ok(rows.into_iter().map(Batch::from).collect())
}

/// What a batch tells without a look at its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead {
    pub upload: BatchUpload,
    pub cancel_requested: bool,
    pub finished_at: Option<DateTime<Utc>>,
    /// Lines taken so far.
    pub lines: i64,
    /// Lines that did not become jobs.
    pub refused: i64,
}

impl Batch {
    pub(super) fn head(&self) -> BatchHead {
        BatchHead {
            upload: self.upload,
            cancel_requested: self.cancel_requested,
            finished_at: self.finished_at,
            lines: self.counts.total,
            refused: self.counts.refused,
        }
    }
}

/// The head of a batch of `owner`, by its key.
///
/// # Errors
/// Postgres is away.
pub async fn find_head(
    db: impl PgExecutor<'_>,
    batch: BatchId,
    owner: &str,
) -> Result<Option<BatchHead>, QueueError> {
    let row = sqlx::query!(
        r#"select sealed_at is not null as "is_sealed!", broke_off, cancel_requested_at is not null as "cancel_requested!", finished_at,
                  lines, refused
           from batches where batch_id = $1 and owner = $2"#,
        batch.uuid(),
        owner
    );
    let row = row.fetch_optional(db).await?;
    Ok(row.map(|row| BatchHead {
        upload: upload(row.is_sealed, row.broke_off),
        cancel_requested: row.cancel_requested,
        finished_at: row.finished_at,
        lines: row.lines.into(),
        refused: row.refused.into(),
    }))
}

fn upload(is_sealed: bool, broke_off: bool) -> BatchUpload {
    match (is_sealed, broke_off) {
        (false, _) => BatchUpload::Open,
        (true, false) => BatchUpload::Complete,
        (true, true) => BatchUpload::BrokenOff,
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::{Batch, BatchStatus as S, BatchUpload, Counts};
    use crate::BatchId;

    fn ended(counts: Counts) -> Batch {
        Batch {
            id: BatchId::now(),
            metadata: json!({}),
            created_at: Utc::now(),
            upload: BatchUpload::Complete,
            cancel_requested: false,
            finished_at: Some(Utc::now()),
            counts,
        }
    }

    fn counts(succeeded: i64, failed: i64, canceled: i64, refused: i64) -> Counts {
        Counts {
            total: succeeded + failed + canceled + refused,
            succeeded,
            failed,
            canceled,
            refused,
            ..Counts::default()
        }
    }

    #[test]
    fn a_batch_is_called_by_what_became_of_its_lines() {
        assert_eq!(ended(counts(3, 0, 0, 0)).status(), S::Succeeded);
        assert_eq!(ended(counts(2, 1, 0, 0)).status(), S::PartlyFailed);
        assert_eq!(ended(counts(2, 0, 0, 1)).status(), S::PartlyFailed);
        assert_eq!(ended(counts(2, 0, 1, 0)).status(), S::PartlyFailed);
        assert_eq!(ended(counts(0, 2, 0, 1)).status(), S::Failed);
        assert_eq!(ended(counts(0, 0, 2, 0)).status(), S::Canceled);
    }

    #[test]
    fn a_canceled_batch_is_called_so_unless_all_had_ended_before() {
        let mut batch = ended(counts(2, 0, 1, 0));
        batch.cancel_requested = true;
        assert_eq!(batch.status(), S::Canceled);
        batch.counts = counts(3, 0, 0, 0);
        assert_eq!(batch.status(), S::Succeeded);
    }

    #[test]
    fn a_batch_whose_upload_broke_off_never_counts_as_a_success() {
        let mut batch = ended(counts(3, 0, 0, 0));
        batch.upload = BatchUpload::BrokenOff;
        assert_eq!(batch.status(), S::PartlyFailed);
    }
}
