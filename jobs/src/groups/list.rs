use sqlx::PgPool;

use super::{Group, group::GroupRow};
use crate::{GroupId, queue::QueueError};

/// Groups of `owner`, newest first, older than `before`.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    db: &PgPool,
    owner: &str,
    before: Option<GroupId>,
    limit: u16,
) -> Result<Vec<Group>, QueueError> {
    let rows = sqlx::query_file_as!(
        GroupRow,
        "src/groups/list.sql",
        owner,
        before.map(GroupId::uuid),
        i64::from(limit)
    );
    let rows = rows.fetch_all(db).await?;
    Ok(rows.into_iter().map(Group::from).collect())
}
