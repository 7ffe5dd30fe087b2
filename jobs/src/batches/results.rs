use std::collections::BTreeMap;

use sqlx::{Acquire, Postgres};

use crate::{BatchId, Job, Problem, job::query_jobs, queue::QueueError};

/// One line of a batch.
#[derive(Debug, Clone)]
pub struct Line {
    /// From 1.
    pub position: i32,
    pub custom_id: Option<String>,
    pub outcome: LineOutcome,
}

#[derive(Debug, Clone)]
pub enum LineOutcome {
    /// The job, in any state.
    Job(Box<Job>),
    Refused(Box<Problem>),
}

/// Lines `after + 1` to `last` of a batch of `owner`, in order. Lines whose job was pruned are left out.
///
/// # Errors
/// Postgres is away.
pub async fn results(
    db: impl Acquire<'_, Database = Postgres>,
    batch: BatchId,
    owner: &str,
    after: i32,
    last: i32,
) -> Result<Vec<Line>, QueueError> {
    let mut db = db.acquire().await?;
    // Lines by their numbers: a range of the index of each table, however large the batch is.
    let jobs = query_jobs!(
        "from ops.jobs
         where batch_uuid = $1 and owner = $2 and batch_line > $3 and batch_line <= $4
           and job_id >= (select uuid_from_time(g.created_at - interval '1 hour') from batches g where g.batch_id = $1)
         order by batch_line",
        batch.uuid(),
        owner,
        after,
        last
    );
    let mut lines = BTreeMap::new();
    for row in jobs.fetch_all(&mut *db).await? {
        let job = Job::try_from(row)?;
        let member = job.member.as_ref();
        let position = member.map_or(0, |member| member.position);
        let custom_id = member.and_then(|member| member.custom_id.clone());
        let outcome = LineOutcome::Job(Box::new(job));
        lines.insert(
            position,
            Line {
                position,
                custom_id,
                outcome,
            },
        );
    }
    let refused = sqlx::query!(
        "select batch_line, custom_id, problem from batch_refusals
         where batch_id = $1 and batch_line > $2 and batch_line <= $3",
        batch.uuid(),
        after,
        last
    );
    for row in refused.fetch_all(&mut *db).await? {
        let problem = serde_json::from_value(row.problem);
        let problem = problem.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let (position, custom_id) = (row.batch_line, row.custom_id);
        let outcome = LineOutcome::Refused(problem);
        lines.entry(position).or_insert(Line {
            position,
            custom_id,
            outcome,
        });
    }
    Ok(lines.into_values().collect())
}
