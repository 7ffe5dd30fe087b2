use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::PgPool;

use super::QueueError;
use crate::{BatchId, Job, JobId, JobState, job::query_jobs};

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
    /// Only older jobs than this one: the last job of the previous page.
    pub before: Option<JobId>,
}

/// Jobs of `owner`, newest first.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    db: &PgPool,
    owner: &str,
    filter: &JobFilter,
    limit: u16,
) -> Result<Vec<Job>, QueueError> {
    // Without tombstones. The cursor is the last id seen, so that a page costs the same at any depth. The jobs of a batch were
    // made between its beginning and its sealing, give or take the difference of two clocks. An id is made before its row
    // begins, at the commit, by another clock: an hour of both is more than enough.
    let rows = query_jobs!(
        "from ops.jobs
         where owner = $1 and purged_at is null
           -- Bounds that a plan for any values can use.
           and job_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
           and ($3::text is null or status = $3)
           and ($4::text is null or model_name = $4)
           and ($5::text is null or task = $5)
           -- As text: a query has no other types.
           and ($6::jsonb = '{}' or not exists (
               select from jsonb_each_text($6) as want(key, value) where (metadata ->> want.key) is distinct from want.value))
           and created_at >= coalesce($7::timestamptz, '-infinity') and job_id >= uuid_from_time(greatest($7 - interval '1 hour', 'epoch'))
           and created_at < coalesce($8::timestamptz, 'infinity')
           and ($10::uuid is null or batch_uuid = $10)
           and job_id >= coalesce((select uuid_from_time(g.created_at - interval '1 hour') from batches g where g.batch_id = $10),
                                  '00000000-0000-0000-0000-000000000000')
           and job_id <= coalesce((select uuid_from_time(g.sealed_at + interval '1 hour') from batches g where g.batch_id = $10 and g.sealed_at is not null),
                                  'ffffffff-ffff-ffff-ffff-ffffffffffff')
         order by job_id desc limit $9",
        owner,
        filter.before.map(JobId::uuid),
        filter.state.map(|state| state.to_string()),
        filter.model,
        filter.task,
        Value::Object(filter.metadata.clone()),
        filter.created_after,
        filter.created_before,
        i64::from(limit),
        filter.batch.map(BatchId::uuid),
    );
    let rows = rows.fetch_all(db).await?;
    Ok(rows
        .into_iter()
        .map(Job::try_from)
        .collect::<Result<_, _>>()?)
}
