//! The explanation of a job, and the `ETag` of a response about one job.

use jobs::{Job, queue::Explanation};

/// The JSON of the explanation of a job's state.
pub(super) fn explanation_body(explanation: Explanation) -> wire::Explanation {
    wire::Explanation {
        job_id: explanation.job_id.to_string(),
        status: explanation.status,
        model: explanation.model,
        priority: explanation.priority,
        jobs_ahead: explanation.jobs_ahead,
        live_workers: explanation.live_workers,
        finished_per_second: explanation.finished_per_second,
        starts_in_seconds: explanation.starts_in_seconds,
        blocked_by: explanation.blocked_by,
    }
}

/// The strong `ETag` of a job: the version of its row.
pub(super) fn etag(job: &Job) -> String {
    format!("\"{}\"", job.version)
}
