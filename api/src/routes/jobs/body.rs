//! A job as clients read it.

use jobs::{Job, JobState, ProblemCode, queue::Explanation, results};
use wire::{
    Attempt, CacheOutcome, ForwardBatch, JobAttempts, JobInput, JobStatus, JobUrls, Object,
    ResolvedModel,
};

use crate::http::trace::trace_id;

/// The JSON of a job. `attempts` is `None` where the list of attempts is left out.
///
/// The job counts as a cache miss. A submit that an earlier job answers sets `cache` itself.
pub(crate) fn job_body(job: Job, attempts: Option<Vec<jobs::Attempt>>) -> wire::Job {
    let urls = JobUrls::new(job.id);
    wire::Job {
        id: job.id.to_string(),
        object: Object::Job,
        version: job.version,
        status: status(job.state),
        status_reason: status_reason(&job).map(str::to_owned),
        task: job.task,
        model: job.model_ref,
        resolved_model: ResolvedModel {
            name: job.model.name,
            version: job.model.version,
            digest: job.model.digest.to_string(),
        },
        input: JobInput {
            image: job.image.sha256.to_string(),
            content_type: job.image.content_type,
            bytes: job.image.bytes,
            width: job.image.width,
            height: job.image.height,
        },
        params: job.params,
        result: job
            .result
            .map(|result| results::shown(result, &urls.result)),
        error: job.problem.filter(|_| job.state.is_terminal()),
        priority: job.priority,
        batch_id: job.member.map(|member| member.batch.to_string()),
        metadata: job.metadata,
        created_at: job.created_at,
        run_at: job.run_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
        deadline: job.deadline,
        retain_until: job.retain_until,
        cancel_requested: job.cancel_requested,
        attempts: JobAttempts {
            charged: job.attempts_charged,
            max: job.attempts_max,
            interruptions: job.interruptions,
            items: attempts.map(|attempts| attempts.into_iter().map(attempt_body).collect()),
        },
        timings_ms: job
            .timings
            .and_then(|timings| serde_json::from_value(timings).ok()),
        batch: job
            .forward_batch_size
            .zip(job.forward_batch_position)
            .map(|(size, position)| ForwardBatch { size, position }),
        cache: CacheOutcome::Miss,
        trace_id: job
            .trace_parent
            .as_deref()
            .and_then(trace_id)
            .map(str::to_owned),
        urls,
    }
}

pub(super) fn attempt_body(attempt: jobs::Attempt) -> Attempt {
    Attempt {
        number: attempt.number,
        worker: attempt.worker,
        device: attempt.device,
        started_at: attempt.started_at,
        ended_at: attempt.ended_at,
        outcome: attempt.outcome,
        charged: attempt.charged,
        error: attempt.error,
    }
}

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

fn status(state: JobState) -> JobStatus {
    match state {
        JobState::Scheduled => JobStatus::Scheduled,
        JobState::Queued => JobStatus::Queued,
        JobState::Running => JobStatus::Running,
        JobState::Succeeded => JobStatus::Succeeded,
        JobState::Failed => JobStatus::Failed,
        JobState::Canceled => JobStatus::Canceled,
        JobState::Expired => JobStatus::Expired,
    }
}

/// Why the job is in its state, if its state alone does not say it.
fn status_reason(job: &Job) -> Option<&'static str> {
    match job.state {
        JobState::Scheduled if job.attempts_charged > 0 => Some("backing_off"),
        JobState::Scheduled => Some("waiting_for_run_at"),
        JobState::Running if job.cancel_requested => Some("cancel_requested"),
        JobState::Failed | JobState::Expired => {
            let code = job.problem.as_ref()?.get("code")?.clone();
            serde_json::from_value::<ProblemCode>(code)
                .ok()
                .map(ProblemCode::as_str)
        }
        _ => None,
    }
}

/// The strong `ETag` of a job: the version of its row.
pub(crate) fn etag(job: &Job) -> String {
    format!("\"{}\"", job.version)
}
