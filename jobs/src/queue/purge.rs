use sqlx::PgPool;

use super::QueueError;
use crate::JobId;

/// Result of [`purge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeOutcome {
    /// The data is deleted, now or before; the row stays as a tombstone.
    Done,
    /// The job waits or runs: cancel it first.
    NotTerminal,
    /// The owner has no such job.
    NotFound,
}

/// Deletes the data of a finished job of `owner`, of any owner if `None`: result, parameters, metadata, and details of its
/// problems. The image is deleted once no other job needs it. Idempotent.
///
/// # Errors
/// Postgres is away.
pub async fn purge(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
) -> Result<PurgeOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select purge_job($1, $2) as "outcome!""#,
        job.uuid(),
        owner
    );
    parse(&outcome.fetch_one(db).await?)
}

/// [`purge`] for an owner, with a row of the audit when the data is deleted by this call. `actor` is the name for the audit.
///
/// # Errors
/// Postgres is away.
pub async fn purge_for(
    db: &PgPool,
    job: JobId,
    owner: &str,
    actor: &str,
) -> Result<PurgeOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"with before as materialized (
               select exists (select from finished_jobs where job_id = $1 and purged_at is not null) as was_purged
           )
           select case when outcome = 'purged' and not before.was_purged
                  then audited('delete_job', ops.job_name($1), jsonb_build_object('owner', $2::text), outcome, $3)
                  else outcome end as "outcome!"
           from before, purge_job($1, $2) as outcome"#,
        job.uuid(),
        owner,
        actor
    );
    parse(&outcome.fetch_one(db).await?)
}

fn parse(outcome: &str) -> Result<PurgeOutcome, QueueError> {
    Ok(match outcome {
        "purged" => PurgeOutcome::Done,
        "not terminal" => PurgeOutcome::NotTerminal,
        "not found" => PurgeOutcome::NotFound,
        other => return Err(QueueError::unknown_outcome(other)),
    })
}
