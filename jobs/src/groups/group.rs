use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{GroupId, queue::QueueError};

/// One group as its owner sees it.
#[derive(Debug, Clone)]
pub struct Group {
    pub id: GroupId,
    pub metadata: Value,
    pub created_at: DateTime<Utc>,
    pub upload: Upload,
    pub cancel_requested: bool,
    pub finished_at: Option<DateTime<Utc>>,
    pub counts: Counts,
}

/// What became of a group's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
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
    /// Lines that never became jobs.
    pub refused: i64,
}

/// Whether more lines may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upload {
    Open,
    Complete,
    /// The last lines never came; the same upload under the same `Idempotency-Key` goes on behind them.
    BrokenOff,
}

/// How a group stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupStatus {
    /// Lines may come, or jobs wait or run.
    Running,
    /// Every line succeeded.
    Succeeded,
    /// Some lines did not succeed, or never came.
    PartlyFailed,
    /// No line succeeded.
    Failed,
    /// A cancel was asked for, and came before the end of some of its jobs.
    Canceled,
}

impl Group {
    pub fn status(&self) -> GroupStatus {
        let counts = &self.counts;
        if self.finished_at.is_none() {
            GroupStatus::Running
        } else if counts.canceled > 0 && (self.cancel_requested || counts.canceled == counts.total)
        {
            GroupStatus::Canceled
        } else if counts.succeeded == counts.total && self.upload == Upload::Complete {
            GroupStatus::Succeeded
        } else if counts.succeeded == 0 {
            GroupStatus::Failed
        } else {
            GroupStatus::PartlyFailed
        }
    }

    pub fn has_ended(&self) -> bool {
        self.finished_at.is_some()
    }

    /// Nothing of it waits or runs, and nothing can come; whether or not somebody wrote that down.
    fn is_due(&self) -> bool {
        let live = self.counts.queued + self.counts.running + self.counts.scheduled;
        !self.has_ended() && self.upload != Upload::Open && live == 0
    }
}

/// One row of `find.sql` or `list.sql`.
pub(super) struct GroupRow {
    pub group_id: Uuid,
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

impl From<GroupRow> for Group {
    fn from(row: GroupRow) -> Self {
        Self {
            id: row.group_id.into(),
            metadata: row.metadata,
            created_at: row.created_at,
            upload: match (row.is_sealed, row.broke_off) {
                (false, _) => Upload::Open,
                (true, false) => Upload::Complete,
                (true, true) => Upload::BrokenOff,
            },
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

/// A group of `owner`; another owner's does not exist. One that is at its end is ended on the way.
///
/// # Errors
/// Postgres is away.
pub async fn find(db: &PgPool, group: GroupId, owner: &str) -> Result<Option<Group>, QueueError> {
    let found = look(db, group, owner).await?;
    if found.as_ref().is_some_and(Group::is_due) && super::finish::finish(db, group).await? {
        return look(db, group, owner).await;
    }
    Ok(found)
}

async fn look(db: &PgPool, group: GroupId, owner: &str) -> Result<Option<Group>, QueueError> {
    Ok(find_all(db, &[group], owner).await?.pop())
}

/// Those of `groups` that are `owner`'s, in no order, as they stand.
///
/// # Errors
/// Postgres is away.
pub async fn find_all(
    db: &PgPool,
    groups: &[GroupId],
    owner: &str,
) -> Result<Vec<Group>, QueueError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = groups.iter().map(|group| group.uuid()).collect();
    let rows = sqlx::query_file_as!(GroupRow, "src/groups/find.sql", &ids, owner);
    let rows = rows.fetch_all(db).await?;
    Ok(rows.into_iter().map(Group::from).collect())
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::{Counts, Group, GroupStatus as S, Upload};
    use crate::GroupId;

    fn ended(counts: Counts) -> Group {
        Group {
            id: GroupId::now(),
            metadata: json!({}),
            created_at: Utc::now(),
            upload: Upload::Complete,
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
    fn a_group_is_called_by_what_became_of_its_lines() {
        assert_eq!(ended(counts(3, 0, 0, 0)).status(), S::Succeeded);
        assert_eq!(ended(counts(2, 1, 0, 0)).status(), S::PartlyFailed);
        assert_eq!(ended(counts(2, 0, 0, 1)).status(), S::PartlyFailed);
        assert_eq!(ended(counts(2, 0, 1, 0)).status(), S::PartlyFailed);
        assert_eq!(ended(counts(0, 2, 0, 1)).status(), S::Failed);
        assert_eq!(ended(counts(0, 0, 2, 0)).status(), S::Canceled);
    }

    #[test]
    fn a_canceled_group_is_called_so_unless_all_had_ended_before() {
        let mut group = ended(counts(2, 0, 1, 0));
        group.cancel_requested = true;
        assert_eq!(group.status(), S::Canceled);
        group.counts = counts(3, 0, 0, 0);
        assert_eq!(group.status(), S::Succeeded);
    }

    #[test]
    fn a_group_whose_upload_broke_off_never_counts_as_a_success() {
        let mut group = ended(counts(3, 0, 0, 0));
        group.upload = Upload::BrokenOff;
        assert_eq!(group.status(), S::PartlyFailed);
    }
}
