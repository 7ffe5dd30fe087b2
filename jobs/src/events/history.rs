use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::{Attempt, Job, JobState};

/// One step of a job's life.
#[derive(Debug, Clone)]
pub struct Step {
    /// Grows from step to step. Stable: made of the number of the lease and the kind of step.
    pub id: i64,
    /// `job.created`, `job.started`, `job.attempt_ended`; then `job.succeeded`, `job.failed`, `job.canceled` or `job.expired`.
    pub step_type: String,
    pub at: DateTime<Utc>,
    /// Which attempt began or ended.
    pub attempt: Option<Attempt>,
}

impl Step {
    fn new(lease_no: i32, place: i64, step_type: impl Into<String>, at: DateTime<Utc>) -> Self {
        Self {
            id: i64::from(lease_no) * 4 + place,
            step_type: step_type.into(),
            at,
            attempt: None,
        }
    }

    fn with_attempt(mut self, attempt: Attempt) -> Self {
        self.attempt = Some(attempt);
        self
    }
}

/// The steps of a job so far, first step first. The last step of an ended job is its end.
///
/// Made from the job's row and its attempts. An end that a retry by hand undid is not among the steps.
///
/// # Errors
/// Postgres is away.
pub async fn history(db: &PgPool, job: &Job) -> Result<Vec<Step>, sqlx::Error> {
    let rows = sqlx::query!(
        "select number, lease_no, worker, device, started_at, ended_at, outcome, charged, problem from attempts where job_id = $1 order by lease_no",
        job.id.uuid()
    );
    let mut steps = vec![Step::new(0, 0, "job.created", job.created_at)];
    for row in rows.fetch_all(db).await? {
        let ended = Attempt {
            number: row.number,
            worker: row.worker,
            device: row.device,
            started_at: row.started_at,
            ended_at: Some(row.ended_at),
            outcome: Some(row.outcome),
            charged: row.charged,
            error: row.problem,
        };
        let begun = begun(&ended);
        steps.push(Step::new(row.lease_no, 1, "job.started", row.started_at).with_attempt(begun));
        steps.push(
            Step::new(row.lease_no, 2, "job.attempt_ended", row.ended_at).with_attempt(ended),
        );
    }
    // If the attempt ended after `job` was read, its steps are in `steps` already.
    let last = steps.last().map_or(0, |step| step.id);
    steps.extend(current_steps(job).filter(|step| step.id > last));
    Ok(steps)
}

/// The steps in the job's own row: the attempt that runs or succeeded, and the end.
fn current_steps(job: &Job) -> impl Iterator<Item = Step> {
    let lease_no = job.lease_no.0;
    let is_in_row = matches!(job.state, JobState::Running | JobState::Succeeded);
    let started = job.started_at.filter(|_| is_in_row).map(|started_at| {
        let attempt = Attempt {
            number: job.attempts_started,
            worker: job.worker.clone(),
            device: job.device.clone(),
            started_at,
            ended_at: None,
            outcome: None,
            charged: false,
            error: None,
        };
        Step::new(lease_no, 1, "job.started", started_at).with_attempt(attempt)
    });
    let ended = job
        .finished_at
        .map(|at| Step::new(lease_no, 3, format!("job.{}", job.state), at));
    started.into_iter().chain(ended)
}

/// The attempt as it was when it started.
fn begun(attempt: &Attempt) -> Attempt {
    Attempt {
        ended_at: None,
        outcome: None,
        charged: false,
        error: None,
        ..attempt.clone()
    }
}
