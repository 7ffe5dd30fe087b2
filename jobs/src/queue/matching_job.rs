use super::{NewJob, QueueError};
use crate::{JobId, db::StatementPool};

/// An earlier job that can answer a submit (docs/adr/0010-prediction-cache.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchingJob {
    /// The job has succeeded.
    Hit(JobId),
    /// The job waits or runs.
    Joined(JobId),
}

impl MatchingJob {
    pub fn job(self) -> JobId {
        match self {
            Self::Hit(job) | Self::Joined(job) => job,
        }
    }
}

/// Finds the one of the `recent` jobs of an image that can answer `job`: equal owner, model version, parameters and metadata,
/// and at least equal retention. `recent` comes from [`crate::images::StoredImage::recent_jobs`].
///
/// Runs no statement if `recent` is empty, or if no earlier job can answer ([`NewJob::can_be_answered_by_earlier_job`]).
///
/// The retention of a hit begins anew once a tenth of it has passed.
///
/// # Errors
/// Postgres is away.
pub async fn find_matching_job(
    db: &StatementPool,
    job: &NewJob,
    recent: &[JobId],
) -> Result<Option<MatchingJob>, QueueError> {
    if recent.is_empty() || !job.can_be_answered_by_earlier_job() {
        return Ok(None);
    }
    let recent: Vec<_> = recent.iter().map(|job| job.uuid()).collect();
    let found = sqlx::query_file!(
        "src/queue/matching_job.sql",
        &recent,
        job.owner,
        job.model.model_version_id,
        serde_json::Value::Object(job.params.clone()),
        serde_json::Value::Object(job.metadata.clone()),
        job.retain_seconds,
        job.priority,
        job.attempts_max,
    );
    let found = db.run(async |db| found.fetch_optional(db).await).await?;
    Ok(found.map(|row| {
        let job = row.job_id.into();
        if row.has_succeeded {
            MatchingJob::Hit(job)
        } else {
            MatchingJob::Joined(job)
        }
    }))
}
