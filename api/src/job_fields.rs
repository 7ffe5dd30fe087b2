//! The fields of a job: their checks, their way from a request into the queue, and their way into the JSON.

use std::ops::RangeInclusive;

use chrono::TimeDelta;
use jobs::{
    Job, JobId, JobState, ProblemCode, images::Image, models::Resolved, queue::NewJob, results,
};
use serde_json::{Map, Value};
use wire::{
    Attempt, CacheOutcome, ForwardBatch, JobAttempts, JobInput, JobRequest, JobStatus, JobUrls,
    Object, ResolvedModel,
};

use crate::{
    config::Limits,
    http::trace::trace_id,
    submit::job_request::{is_out_of_range, metadata_fault},
};

const PRIORITY_RANGE: RangeInclusive<i16> = -100..=100;
const ATTEMPTS_MAX_RANGE: RangeInclusive<i16> = 1..=20;
const RETAIN_DAYS_MAX: f64 = 3650.0;

/// The first field that is out of its range, as a JSON pointer, and the reason; `None` if all fields fit.
pub(crate) fn field_fault(request: &JobRequest) -> Option<(&'static str, &'static str)> {
    if !PRIORITY_RANGE.contains(&request.priority) {
        Some(("/priority", "must lie in -100..=100"))
    } else if request
        .max_attempts
        .is_some_and(|max| !ATTEMPTS_MAX_RANGE.contains(&max))
    {
        Some(("/max_attempts", "must lie in 1..=20"))
    } else if request.run_at.is_some_and(is_out_of_range) {
        Some(("/run_at", "must lie in the years 1970 to 9999"))
    } else if request.deadline.is_some_and(is_out_of_range) {
        Some(("/deadline", "must lie in the years 1970 to 9999"))
    } else if let Some(detail) = metadata_fault(&request.metadata) {
        Some(("/metadata", detail))
    } else if request.retain_for.is_some_and(|keep| {
        keep <= TimeDelta::zero() || keep.num_seconds() as f64 > RETAIN_DAYS_MAX * 86_400.0
    }) {
        Some(("/retain_for", "must lie between a second and ten years"))
    } else {
        None
    }
}

/// The job to queue.
pub(crate) fn new_job(
    request: JobRequest,
    owner: &str,
    model: Resolved,
    params: Map<String, Value>,
    image: Image,
    trace_parent: String,
    limits: &Limits,
) -> NewJob {
    NewJob {
        id: JobId::now(),
        owner: owner.to_owned(),
        model,
        image,
        params,
        metadata: request.metadata,
        priority: request.priority,
        run_at: request.run_at,
        deadline: request.deadline,
        retain_seconds: request
            .retain_for
            .map_or(limits.retain_days * 86_400.0, |keep| {
                keep.num_seconds() as f64
            }),
        attempt_timeout_seconds: limits.attempt_timeout_seconds,
        attempts_max: request.max_attempts.unwrap_or(limits.attempts_max),
        interruptions_max: limits.interruptions_max,
        trace_parent: Some(trace_parent),
        idempotency: None,
        member: None,
        webhook_url: request.webhook.map(|webhook| webhook.url),
    }
}

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
            warnings: job.image.warnings,
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

/// The JSON of an attempt.
pub(crate) fn attempt_body(attempt: jobs::Attempt) -> Attempt {
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
