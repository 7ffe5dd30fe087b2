use super::{NewJob, QueueError};
use crate::{JobId, db::StatementPool};

/// A job that a submit would only repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchingJob {
    /// It has succeeded.
    Hit(JobId),
    /// It waits or runs.
    Joined(JobId),
}

impl MatchingJob {
    pub fn job(self) -> JobId {
        match self {
            Self::Hit(job) | Self::Joined(job) => job,
        }
    }
}

/// Whether one of the `recent` jobs over the same image, [`crate::images::Stored::recent_jobs`], is what `job` asks for: the
/// same owner, model version, parameters and metadata, kept for as long. Asks nothing if there is none, or if `job` has
/// wishes that are its own: a time, a deadline, a webhook, a batch.
///
/// The time for which a hit is kept begins anew, once a tenth of it is over.
///
/// # Errors
/// Postgres is away.
pub async fn find_matching_job(
    db: &StatementPool,
    job: &NewJob,
    recent: &[JobId],
) -> Result<Option<MatchingJob>, QueueError> {
    let has_own_wishes = job.run_at.is_some()
        || job.deadline.is_some()
        || job.webhook_url.is_some()
        || job.member.is_some();
    if recent.is_empty() || has_own_wishes {
        return Ok(None);
    }
    let recent: Vec<_> = recent.iter().map(|job| job.uuid()).collect();
    let found = sqlx::query_file!(
        "src/queue/predicted.sql",
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
