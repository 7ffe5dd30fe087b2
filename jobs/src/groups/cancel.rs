use sqlx::{PgExecutor, PgPool};

use crate::{GroupId, queue::QueueError};

/// Asks for the end of a group of `owner`: no more lines, and its jobs are canceled, by [`cancel_some`]. `false`: there is
/// no such group, or it has ended.
///
/// # Errors
/// Postgres is away.
pub async fn cancel(db: &PgPool, group: GroupId, owner: &str) -> Result<bool, QueueError> {
    let asked = sqlx::query!(
        "update groups set cancel_requested_at = coalesce(cancel_requested_at, now())
         where group_id = $1 and owner = $2 and finished_at is null",
        group.uuid(),
        owner
    );
    Ok(asked.execute(db).await?.rows_affected() > 0)
}

/// Cancels some jobs of groups that are to end, of all such groups if `None`; call again until none is left. Answers how
/// many it took up.
///
/// # Errors
/// Postgres is away.
pub async fn cancel_some(
    db: impl PgExecutor<'_>,
    group: Option<GroupId>,
) -> Result<i64, QueueError> {
    let canceled = sqlx::query_scalar!(
        r#"with live as materialized (
               select j.job_id from groups g join live_jobs j using (group_id)
               where g.cancel_requested_at is not null and g.finished_at is null and ($1::uuid is null or g.group_id = $1)
                 and not j.cancel_requested
               limit 500
           )
           select count(cancel_job(job_id, null)) as "canceled!" from live"#,
        group.map(GroupId::uuid)
    );
    Ok(canceled.fetch_one(db).await?)
}
