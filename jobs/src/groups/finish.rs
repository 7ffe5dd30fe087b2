use sqlx::{PgExecutor, PgPool};

use crate::{GroupId, queue::QueueError};

/// Ends some of the groups that are at their end; call again until none is left.
///
/// # Errors
/// Postgres is away.
pub async fn finish_due(db: impl PgExecutor<'_>) -> Result<Vec<GroupId>, QueueError> {
    let ended = sqlx::query_scalar!(
        "with due as materialized (
             select g.group_id from groups g
             where g.finished_at is null and g.sealed_at is not null
               and not exists (select from live_jobs j where j.group_id = g.group_id)
             order by g.group_id limit 100
         )
         select group_id as \"group_id!\" from due where finish_group(group_id)"
    );
    let ended = ended.fetch_all(db).await?;
    Ok(ended.into_iter().map(Into::into).collect())
}

/// Whether this group ended just now.
pub(super) async fn finish(db: &PgPool, group: GroupId) -> Result<bool, QueueError> {
    let ended = sqlx::query_scalar!(r#"select finish_group($1) as "ended!""#, group.uuid());
    Ok(ended.fetch_one(db).await?)
}
