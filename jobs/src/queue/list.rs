use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use sqlx::{Acquire, PgConnection, Postgres};
use uuid::Uuid;

use super::{QueueError, find::find_on};
use crate::{BatchId, Job, JobId, JobState};

/// Selects jobs of an owner.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub state: Option<JobState>,
    /// Name of the model, any version.
    pub model: Option<String>,
    pub task: Option<String>,
    /// Only jobs whose metadata has all these entries. Values are compared as text: `"8841"` finds the number too.
    pub metadata: Map<String, Value>,
    pub created_after: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
    /// Only jobs of this batch.
    pub batch: Option<BatchId>,
    /// Only older jobs than this one: `next` of the previous page.
    pub before: Option<JobId>,
}

/// How long a page may be, and how much work it may be.
#[derive(Debug, Clone, Copy)]
pub struct PageSize {
    /// Most jobs of a page.
    pub jobs: u16,
    /// Most jobs that a page of a filtered list looks at.
    pub looked_at: u32,
}

impl PageSize {
    /// Default of [`Self::looked_at`]. Postgres reads so many rows in less than 100 ms.
    pub const LOOKED_AT_MAX: u32 = 20_000;

    pub fn of(jobs: u16) -> Self {
        Self {
            jobs,
            looked_at: Self::LOOKED_AT_MAX,
        }
    }
}

/// A page of jobs, newest first.
#[derive(Debug)]
pub struct JobPage {
    pub jobs: Vec<Job>,
    /// Where the next page begins; `None`: there are no older jobs. The page may be shorter than the limit, even empty, and have
    /// a next one: it ends where it has looked at the most jobs that it may.
    pub next: Option<JobId>,
}

/// A page of the jobs of `owner`, without tombstones. A page costs the same at any depth and with any filter.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    db: impl Acquire<'_, Database = Postgres>,
    owner: &str,
    filter: &JobFilter,
    size: PageSize,
) -> Result<JobPage, QueueError> {
    let mut db = db.acquire().await?;
    let Some(bounds) = Bounds::of(&mut db, owner, filter).await? else {
        return Ok(JobPage {
            jobs: Vec::new(),
            next: None,
        });
    };
    let (mut ids, floor) = ids(&mut db, owner, filter, bounds, size).await?;
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let is_full = ids.len() > usize::from(size.jobs);
    ids.truncate(size.jobs.into());
    let next = if is_full { ids.last().copied() } else { floor };
    let mut jobs = find_on(&mut *db, &ids, &vec![owner.to_owned(); ids.len()]).await?;
    // A job may have changed since the ids were read.
    jobs.retain(|job| {
        job.purged_at.is_none() && filter.state.is_none_or(|wanted| wanted == job.state)
    });
    jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.id.uuid()));
    Ok(JobPage {
        jobs,
        next: next.map(JobId::from),
    })
}

/// The ids that a list can contain.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    from: Uuid,
    before: Uuid,
}

impl Bounds {
    /// An id is made before its row begins, at the commit, by another clock. An hour is more than both can differ.
    const SLACK: TimeDelta = TimeDelta::hours(1);

    /// `None`: the owner has no such batch.
    async fn of(
        db: &mut PgConnection,
        owner: &str,
        filter: &JobFilter,
    ) -> Result<Option<Self>, QueueError> {
        let (mut after, mut until) = (filter.created_after, filter.created_before);
        if let Some(batch) = filter.batch {
            let times = sqlx::query!(
                "select created_at, sealed_at from batches where batch_id = $1 and owner = $2",
                batch.uuid(),
                owner
            );
            let Some(times) = times.fetch_optional(db).await? else {
                return Ok(None);
            };
            after = after.max(Some(times.created_at));
            until = until.into_iter().chain(times.sealed_at).min();
        }
        let from = after.and_then(|time| time.checked_sub_signed(Self::SLACK));
        let until = until.and_then(|time| time.checked_add_signed(Self::SLACK));
        let until = until.map_or(Uuid::max(), first_id);
        Ok(Some(Self {
            from: from.map_or(Uuid::nil(), first_id),
            before: filter
                .before
                .map_or(until, |before| until.min(before.uuid())),
        }))
    }
}

/// The smallest id of a time, as `uuid_from_time` in SQL.
fn first_id(time: DateTime<Utc>) -> Uuid {
    const LATEST: i64 = (1 << 48) - 1;
    let milliseconds = time.timestamp_millis().clamp(0, LATEST);
    Uuid::from_u128(u128::from(milliseconds.unsigned_abs()) << 80)
}

/// The ids of a page and one more, in any order; and the last id that the page looked at, if it did not reach the end.
async fn ids(
    db: &mut PgConnection,
    owner: &str,
    filter: &JobFilter,
    bounds: Bounds,
    size: PageSize,
) -> Result<(Vec<Uuid>, Option<Uuid>), QueueError> {
    let limit = i64::from(size.jobs) + 1;
    let looked_at = i64::from(size.looked_at).max(1);
    let metadata = Value::Object(filter.metadata.clone());
    let batch = filter.batch.map(BatchId::uuid);
    let state = filter.state.map(|state| state.to_string());
    let rest_is_filtered = filter.model.is_some()
        || filter.task.is_some()
        || !filter.metadata.is_empty()
        || filter.created_after.is_some()
        || filter.created_before.is_some()
        || filter.batch.is_some();
    let rows: Vec<(Uuid, bool)> =
        if let Some(JobState::Failed | JobState::Canceled | JobState::Expired) = filter.state {
            let rows = sqlx::query_file!(
                "src/queue/list_outcome_ids.sql",
                owner,
                bounds.before,
                bounds.from,
                limit,
                looked_at,
                rest_is_filtered,
                state,
                filter.model,
                filter.task,
                metadata,
                filter.created_after,
                filter.created_before,
                batch,
            );
            let rows = rows.fetch_all(db).await?.into_iter();
            rows.map(|row| (row.job_id, row.is_floor)).collect()
        } else {
            let is_filtered = rest_is_filtered || filter.state.is_some();
            let is_terminal = filter.state.map(JobState::is_terminal);
            let rows = sqlx::query_file!(
                "src/queue/list_ids.sql",
                owner,
                bounds.before,
                bounds.from,
                limit,
                looked_at,
                is_filtered,
                is_terminal != Some(true),
                is_terminal != Some(false),
                state,
                filter.model,
                filter.task,
                metadata,
                filter.created_after,
                filter.created_before,
                batch,
            );
            let rows = rows.fetch_all(db).await?.into_iter();
            rows.map(|row| (row.job_id, row.is_floor)).collect()
        };
    let floor = rows.iter().find(|(_, is_floor)| *is_floor);
    let floor = floor.map(|(id, _)| *id);
    let ids = rows.into_iter().filter(|(_, is_floor)| !is_floor);
    Ok((ids.map(|(id, _)| id).collect(), floor))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::first_id;

    #[test]
    fn the_first_id_of_a_time_begins_with_its_milliseconds() {
        let id = |text: &str| first_id(text.parse::<DateTime<_>>().expect("a time")).to_string();
        assert_eq!(
            id("2026-01-31T12:00:00.123Z"),
            "019c13ec-9e7b-0000-0000-000000000000"
        );
        assert_eq!(
            id("1950-01-01T00:00:00Z"),
            "00000000-0000-0000-0000-000000000000"
        );
    }
}
