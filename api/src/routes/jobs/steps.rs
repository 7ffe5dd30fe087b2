use std::{convert::Infallible, time::Duration};

use actix_web::{HttpRequest, HttpResponse, get, http::header, web::Data};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, stream};
use jobs::{
    Job, JobId,
    events::{self, history},
    keys::Scope,
    queue::JobWatch,
};
use serde::Serialize;
use utoipa::ToSchema;
use wire::{Attempt, micros};

use super::{job_id, own_job};
use crate::{
    ctx::Ctx,
    http::error::ApiError,
    job_fields::{attempt_body, job_body},
    limits::keyring::Caller,
    openapi::NotFound,
};

/// How often a stream sends a comment while nothing happens, and reads the job in case a notification was lost.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The steps of a job so far, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<StepBody>,
}

/// One step. The last step contains the ended job.
// Not `wire::JobStep`: the OpenAPI document has the step and its job as two schemas.
#[derive(Debug, Serialize, ToSchema)]
struct StepBody {
    #[serde(flatten)]
    step: Step,
    /// The ended job.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Box<wire::Job>>,
}

/// One step of a job's life.
#[derive(Debug, Serialize, ToSchema)]
struct Step {
    /// Grows from step to step. Stable: made of the number of the lease and the kind of step.
    id: i64,
    /// `job.created`, `job.started`, `job.attempt_ended`; then `job.succeeded`, `job.failed`, `job.canceled` or `job.expired`.
    #[serde(rename = "type")]
    kind: String,
    #[serde(serialize_with = "micros")]
    at: DateTime<Utc>,
    /// Which attempt began or ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<Attempt>,
}

impl From<events::Step> for Step {
    fn from(step: events::Step) -> Self {
        Self {
            id: step.id,
            kind: step.step_type,
            at: step.at,
            attempt: step.attempt.map(attempt_body),
        }
    }
}

/// The steps of a job: created, started, retried, ended.
///
/// With `Accept: text/event-stream`, the answer is a stream of server-sent events until the job ends. Each has `id`, `event` (the
/// type) and `data` (the step). `Last-Event-ID` continues after a step; 204 if that was the last one.
#[utoipa::path(
    operation_id = "job_events", tag = "events",
    params(("id" = String, Path, description = "`job_` and 32 hex digits"),
           ("Accept" = Option<String>, Header, description = "`text/event-stream` for a stream; else a list"),
           ("Last-Event-ID" = Option<i64>, Header, description = "The `id` of the last step that you have")),
    responses(
        (status = 200, description = "The steps", content((StepList = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "A stream after the last step: do not connect again"),
        NotFound,
        (status = 410, description = "data_purged", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/v1/jobs/{id}/events")]
pub(super) async fn job_events(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = job_id(&request)?;
    let watch = ctx.changes.watch(id);
    let (steps, job) = read(&ctx, id, &caller.owner).await?;
    if !wants_stream(&request) {
        let data = bodies(steps, &job);
        let object = "list";
        return Ok(HttpResponse::Ok().json(StepList { object, data }));
    }
    let last = last_event_id(&request);
    let mut follower = Follower {
        ctx,
        watch,
        id,
        owner: caller.owner.as_str().into(),
        last,
        has_ended: false,
    };
    let events = follower.new_events(steps, &job);
    if follower.has_ended && events.is_empty() {
        return Ok(HttpResponse::NoContent().finish());
    }
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Keeps nginx from buffering the stream.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(follower.follow(format!("retry: 1000\n\n{events}").into())))
}

fn wants_stream(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    accept
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/event-stream"))
}

/// The last step that the client has; -1 if it has none.
fn last_event_id(request: &HttpRequest) -> i64 {
    let last = request.headers().get("last-event-id");
    last.and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .unwrap_or(-1)
}

async fn read(ctx: &Ctx, id: JobId, owner: &str) -> Result<(Vec<events::Step>, Job), ApiError> {
    let job = own_job(ctx, id, owner).await?;
    Ok((history(&ctx.db, &job).await?, job))
}

fn bodies(steps: Vec<events::Step>, job: &Job) -> Vec<StepBody> {
    let has_ended = job.state.is_terminal();
    let last = steps.last().map(|step| step.id);
    let body = |step: events::Step| StepBody {
        job: (has_ended && last == Some(step.id)).then(|| Box::new(job_body(job.clone(), None))),
        step: step.into(),
    };
    steps.into_iter().map(body).collect()
}

/// The stream of one client. There may be thousands of streams, so it holds no job.
#[derive(Debug)]
struct Follower {
    ctx: Data<Ctx>,
    watch: JobWatch,
    id: JobId,
    owner: Box<str>,
    /// The last step that was sent.
    last: i64,
    has_ended: bool,
}

impl Follower {
    /// The steps after the last one, as server-sent events.
    fn new_events(&mut self, steps: Vec<events::Step>, job: &Job) -> String {
        self.has_ended = job.state.is_terminal();
        let bodies = bodies(steps, job).into_iter();
        let events = bodies.filter(|body| body.step.id > self.last).map(|body| {
            let json = serde_json::to_string(&body).expect("a step has only JSON-able fields");
            let Step { id, kind, .. } = &body.step;
            (*id, format!("id: {id}\nevent: {kind}\ndata: {json}\n\n"))
        });
        let (ids, events): (Vec<_>, Vec<_>) = events.unzip();
        self.last = ids.last().copied().unwrap_or(self.last);
        events.concat()
    }

    fn follow(self, first: Bytes) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold((Some(first), self), |(first, mut this)| async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, this)));
            }
            let next = this.next().await?;
            Some((Ok(next), (None, this)))
        })
    }

    /// The next events, or a comment; `None` after the end of the job, or when the process shuts down.
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        tokio::select! {
            _ = self.watch.changed(HEARTBEAT) => {}
            () = self.ctx.shutdown().cancelled() => return None,
        }
        // Boxed, so that a waiting stream does not hold the memory of this future.
        let read = Box::pin(read(&self.ctx, self.id, &self.owner)).await;
        let events = match read {
            Ok((steps, job)) => self.new_events(steps, &job),
            // The stream ends: the client connects again and gets the reason as a response.
            Err(_) => return None,
        };
        Some(if events.is_empty() {
            Bytes::from_static(b": still here\n\n")
        } else {
            events.into()
        })
    }
}
