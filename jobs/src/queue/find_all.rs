use sqlx::PgPool;

use super::{QueueError, find::JobRow};
use crate::{Job, JobId};

/// Those of these jobs that are `owner`'s, in no order.
///
/// # Errors
/// Postgres is away.
pub async fn find_all(db: &PgPool, jobs: &[JobId], owner: &str) -> Result<Vec<Job>, QueueError> {
    let ids: Vec<_> = jobs.iter().map(|job| job.uuid()).collect();
    let rows = sqlx::query_file_as!(JobRow, "src/queue/find_all.sql", &ids, owner);
    let jobs = rows.fetch_all(db).await?.into_iter().map(Job::try_from);
    Ok(jobs.collect::<Result<_, _>>()?)
}
