use std::collections::HashMap;

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
    match only_attempt(job) {
        Some(attempt) => Ok(vec![attempt]),
        None => attempts(db, job.id).await,
    }
}

/// As [`attempts_of`], for each of `jobs`, in their order; one statement at most.
///
/// # Errors
/// Postgres is away.
pub async fn attempts_of_all(
    db: impl PgExecutor<'_>,
    jobs: &[Job],
) -> Result<Vec<Vec<Attempt>>, QueueError> {
    let mut found: Vec<Option<Attempt>> = jobs.iter().map(only_attempt).collect();
    let others = jobs.iter().zip(&found).filter(|(_, found)| found.is_none());
    let others: Vec<_> = others.map(|(job, _)| job.id.uuid()).collect();
    let mut by_job: HashMap<Uuid, Vec<Attempt>> = HashMap::new();
    if !others.is_empty() {
        let rows = sqlx::query!(
            r#"select a.job_id as "job_id!", a.number as "number!", a.worker, a.device, a.started_at as "started_at!", a.ended_at, a.outcome,
                      a.charged as "charged!", a.problem
               from unnest($1::uuid[]) as asked(id)
               cross join lateral (select * from ops.attempts x where x.job_id = asked.id offset 0) a
               order by a.job_id, a.number"#,
            &others
        );
        for row in rows.fetch_all(db).await? {
            by_job.entry(row.job_id).or_default().push(Attempt {
                number: row.number,
                worker: row.worker,
                device: row.device,
                started_at: row.started_at,
                ended_at: row.ended_at,
                outcome: row.outcome,
                charged: row.charged,
                error: row.problem,
            });
        }
    }
    let attempts = jobs.iter().zip(&mut found).map(|(job, only)| {
        let only = only.take().map(|only| vec![only]);
        only.or_else(|| by_job.remove(&job.id.uuid()))
            .unwrap_or_default()
    });
    Ok(attempts.collect())
}

/// The attempt of a job that succeeded at once: its data is in the job.
fn only_attempt(job: &Job) -> Option<Attempt> {
    let started_at = job.started_at?;
    (job.state == JobState::Succeeded && job.attempts_started == 1).then(|| Attempt {
        number: 1,
        worker: job.worker.clone(),
        device: job.device.clone(),
        started_at,
        ended_at: job.finished_at,
        outcome: Some(job.state.to_string()),
        charged: true,
        error: None,
    })
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
