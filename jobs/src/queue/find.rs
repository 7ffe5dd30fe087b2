use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::QueueError;
use crate::{Attempt, Job, JobId, JobState, job::query_jobs};

/// A job of `owner`, live or finished; `None` for a job of another owner.
///
/// # Errors
/// Postgres is away.
pub async fn find(db: &PgPool, job: JobId, owner: &str) -> Result<Option<Job>, QueueError> {
    Ok(find_on(db, &[job.uuid()], &[owner.to_owned()]).await?.pop())
}

/// Those of `jobs` that belong to `owner`, in any order.
///
/// # Errors
/// Postgres is away.
pub async fn find_all(db: &PgPool, jobs: &[JobId], owner: &str) -> Result<Vec<Job>, QueueError> {
    let ids: Vec<_> = jobs.iter().map(|job| job.uuid()).collect();
    find_on(db, &ids, &vec![owner.to_owned(); ids.len()]).await
}

/// Finds jobs of many owners, in any order. `owners` has the owner of each job.
pub(super) async fn find_on(
    db: impl PgExecutor<'_>,
    jobs: &[Uuid],
    owners: &[String],
) -> Result<Vec<Job>, QueueError> {
    // The query reads one row of the view for each pair of a job and an owner. It finds rows by primary keys, whatever the
    // statistics say: `offset 0` keeps the order of the join. With `=` instead of `any`, the planner may look an image up by its owner alone.
    let rows = query_jobs!(
        "from unnest($1::uuid[], $2::text[]) as asked(id, by)
         cross join lateral (select * from ops.jobs x where x.job_id = asked.id and x.owner = any(array[asked.by]) offset 0) j",
        jobs,
        owners
    );
    let jobs = rows.fetch_all(db).await?.into_iter().map(Job::try_from);
    Ok(jobs.collect::<Result<_, _>>()?)
}

/// Every attempt of a job that was read before, first attempt first. If the first attempt succeeded, its data is in the job,
/// and no statement runs: that is the common case, and the statement costs more than the one for the job.
///
/// # Errors
/// Postgres is away.
pub async fn attempts_of(db: &PgPool, job: &Job) -> Result<Vec<Attempt>, QueueError> {
    match job.started_at {
        Some(started_at) if job.state == JobState::Succeeded && job.attempts_started == 1 => {
            Ok(vec![Attempt {
                number: 1,
                worker: job.worker.clone(),
                device: job.device.clone(),
                started_at,
                ended_at: job.finished_at,
                outcome: Some(job.state.to_string()),
                charged: true,
                error: None,
            }])
        }
        _ => attempts(db, job.id).await,
    }
}

/// Every attempt of a job, first attempt first.
///
/// # Errors
/// Postgres is away.
pub async fn attempts(db: &PgPool, job: JobId) -> Result<Vec<Attempt>, QueueError> {
    let attempts = sqlx::query_as!(
        Attempt,
        r#"select number as "number!", worker, device, started_at as "started_at!", ended_at, outcome, charged as "charged!", problem as error
           from ops.attempts where job_id = $1 order by number"#,
        job.uuid()
    );
    Ok(attempts.fetch_all(db).await?)
}
