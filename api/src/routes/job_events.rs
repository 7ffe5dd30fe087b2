use std::{convert::Infallible, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use bytes::Bytes;
use futures_util::{Stream, stream};
use jobs::{
    Job, JobId, Problem,
    events::{Step, history},
    keys::Scope,
    queue::JobWatch,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{job_id, own_job};
use crate::{auth::Caller, ctx::Ctx, error::ApiError, job_body::JobBody, openapi::NotFound};

/// How often a stream says that it is still there, and looks for what it was not told.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What happened to a job so far, first step first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<StepBody>,
}

/// One step, and with the last one the job.
#[derive(Debug, Serialize, ToSchema)]
struct StepBody {
    #[serde(flatten)]
    step: Step,
    /// As it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Box<JobBody>>,
}

/// What happened to a job: made, begun, tried again, ended.
///
/// With `Accept: text/event-stream` as server-sent events that go on until the job ends, `id`, `event` (the type) and `data`
/// (the step) each. `Last-Event-ID` goes on behind a step; 204 if that was the last one.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", operation_id = "job_events", tag = "events",
    params(("id" = String, Path, description = "`job_` and 32 hex digits"),
           ("Accept" = Option<String>, Header, description = "`text/event-stream` for a stream; else a list"),
           ("Last-Event-ID" = Option<i64>, Header, description = "The `id` of the last step that you have")),
    responses(
        (status = 200, description = "The steps", content((StepList = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "A stream after the last step: do not connect again"),
        NotFound,
        (status = 410, description = "data_purged", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn job_events(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = job_id(&request)?;
    let watch = ctx.changes.watch(id);
    let (steps, job) = look(&ctx, id, &caller.owner).await?;
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
        ended: false,
    };
    let news = follower.news(steps, &job);
    if follower.ended && news.is_empty() {
        return Ok(HttpResponse::NoContent().finish());
    }
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // For proxies that would rather collect first.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(follower.follow(format!("retry: 1000\n\n{news}").into())))
}

fn wants_stream(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    accept
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/event-stream"))
}

/// Before everything, if the client has nothing.
fn last_event_id(request: &HttpRequest) -> i64 {
    let last = request.headers().get("last-event-id");
    last.and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .unwrap_or(-1)
}

async fn look(ctx: &Ctx, id: JobId, owner: &str) -> Result<(Vec<Step>, Job), ApiError> {
    let job = own_job(ctx, id, owner).await?;
    Ok((history(&ctx.db, &job).await?, job))
}

fn bodies(steps: Vec<Step>, job: &Job) -> Vec<StepBody> {
    let has_ended = job.state.is_terminal();
    let last = steps.last().map(|step| step.id);
    let body = |step: Step| StepBody {
        job: (has_ended && last == Some(step.id))
            .then(|| Box::new(JobBody::new(job.clone(), None))),
        step,
    };
    steps.into_iter().map(body).collect()
}

/// A client that follows a job. There may be thousands: it holds no job, only what it needs to look for one.
#[derive(Debug)]
struct Follower {
    ctx: Data<Ctx>,
    watch: JobWatch,
    id: JobId,
    owner: Box<str>,
    /// The last step that was sent.
    last: i64,
    ended: bool,
}

impl Follower {
    /// The steps behind the last one, as they go over the wire.
    fn news(&mut self, steps: Vec<Step>, job: &Job) -> String {
        self.ended = job.state.is_terminal();
        let bodies = bodies(steps, job).into_iter();
        let news = bodies.filter(|body| body.step.id > self.last).map(|body| {
            let json = serde_json::to_string(&body).expect("a step has only JSON-able fields");
            let Step { id, step_type, .. } = &body.step;
            (
                *id,
                format!("id: {id}\nevent: {step_type}\ndata: {json}\n\n"),
            )
        });
        let (ids, news): (Vec<_>, Vec<_>) = news.unzip();
        self.last = ids.last().copied().unwrap_or(self.last);
        news.concat()
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

    /// What happens next, or a sign of life; `None` after the end of the job, or of this process.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        tokio::select! {
            () = self.watch.changed(HEARTBEAT) => {}
            () = self.ctx.leaves() => return None,
        }
        // Boxed: while nothing happens, there is no need for its room.
        let look = Box::pin(look(&self.ctx, self.id, &self.owner)).await;
        let news = match look {
            Ok((steps, job)) => self.news(steps, &job),
            // For the moment, or for good: asking again will tell.
            Err(_) => return None,
        };
        Some(if news.is_empty() {
            Bytes::from_static(b": still here\n\n")
        } else {
            news.into()
        })
    }
}
