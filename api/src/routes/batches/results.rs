use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, HttpResponse, get, web::Data};
use bytes::Bytes;
use futures_util::{Stream, stream};
use jobs::{
    BatchId, JobId, Problem, ProblemCode,
    batches::{self, BatchUpload, Line, LineOutcome},
    keys::Scope,
    queue::JobWatch,
};
use wire::BatchResult;

use super::batch_id;
use crate::{
    ctx::Ctx,
    http::{
        error::ApiError,
        paging,
        waiting::{WaitPreference, wait_for_change},
    },
    job_fields::job_body,
    limits::keyring::Caller,
    openapi::{InvalidParams, NotFound},
};

/// Lines that one statement reads.
const PAGE_LINES: i32 = 50;
/// How often a waiting stream reads while lines are being uploaded: no notification tells of a new line.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How often a waiting stream reads while its next line runs, in case the notification of the end was lost.
const JOB_READ_EVERY: Duration = Duration::from_secs(10);
/// A stream pauses after each reading for so many times its length, so that many streams of one batch leave time to others.
const PAUSE: u32 = 4;
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The results of the lines of a batch, in order, as NDJSON.
///
/// While the batch runs, the stream ends before the first line that has not ended. Continue with `?after=` and the last `line`
/// that you have. With `Prefer: wait=N` the stream stays open up to N seconds and sends lines as they end.
#[utoipa::path(
    operation_id = "get_batch_results", tag = "batches",
    params(("id" = String, Path, description = "`batch_` and 32 hex digits"),
           ("after" = Option<i32>, Query, description = "Only lines after this number"),
           ("Prefer" = Option<String>, Header, description = "`wait=N`: keep the stream open up to N (60) seconds while the batch runs")),
    responses(
        (status = 200, description = "One JSON object on each line", body = BatchResult, content_type = "application/x-ndjson"),
        NotFound,
        InvalidParams,
    ),
)]
#[get("/v1/batches/{id}/results")]
pub(super) async fn get_batch_results(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = batch_id(&request)?;
    let preference = WaitPreference::of(&request);
    let mut results = ResultStream {
        ctx,
        batch: id,
        owner: caller.owner.clone(),
        after: after(request.query_string())?,
        preference,
        page: VecDeque::new(),
        total: 0,
        upload: BatchUpload::Open,
    };
    // The first page is read before the head of the response, so that an error gets a status.
    results.read().await?;
    let mut response = HttpResponse::Ok();
    response.content_type("application/x-ndjson");
    if let Some(preference) = preference {
        response.insert_header(preference.applied());
    }
    Ok(response.streaming(results.lines()))
}

pub(crate) fn after(query: &str) -> Result<i32, ApiError> {
    let mut after = 0;
    for (name, value) in paging::query(query) {
        let line = (name == "after").then(|| value.parse().ok());
        let line = line.flatten().filter(|line| *line >= 0);
        let detail = "only `after`, the number of a line, is understood";
        after =
            line.ok_or_else(|| ApiError::invalid_field(&format!("/{name}"), "invalid", detail))?;
    }
    Ok(after)
}

/// A stream of the lines. Holds one page in memory.
struct ResultStream {
    ctx: Data<Ctx>,
    batch: BatchId,
    owner: String,
    /// Number of the last line that was sent or is on the page.
    after: i32,
    preference: Option<WaitPreference>,
    /// Lines as they are sent: they need much less memory than jobs.
    page: VecDeque<Bytes>,
    /// Number of the last line that the batch had when it was last read.
    total: i32,
    upload: BatchUpload,
}

/// How reading went on.
enum Progress {
    Page,
    Blocked(Blocker),
    End,
}

/// Why the next line cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocker {
    /// Its job has not ended.
    Job(JobId),
    /// It has not been uploaded.
    Upload,
}

impl ResultStream {
    fn lines(self) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
        stream::try_unfold(self, |mut this| async move {
            loop {
                if let Some(line) = this.page.pop_front() {
                    return Ok(Some((line, this)));
                }
                if !this.next_page().await? {
                    return Ok(None);
                }
            }
        })
    }

    /// Waits for the next page. `false` at the end, when the time is over, or when the process shuts down.
    async fn next_page(&mut self) -> Result<bool, ApiError> {
        let mut watched: Option<(Blocker, JobWatch)> = None;
        loop {
            let began = Instant::now();
            let blocker = match self.read().await? {
                Progress::Page => return Ok(true),
                Progress::End => return Ok(false),
                Progress::Blocked(blocker) => blocker,
            };
            let pause = (began.elapsed() * PAUSE).min(PAUSE_MAX);
            let shutdown = self.ctx.shutdown();
            let remaining = |preference: WaitPreference| preference.remaining(shutdown);
            let Some(remaining) = self.preference.and_then(remaining) else {
                return Ok(false);
            };
            let Some((_, watch)) = watched.take_if(|(of, _)| *of == blocker) else {
                // A watch hears only of what comes after it: the line is read once more.
                let watch = match blocker {
                    Blocker::Job(job) => self.ctx.changes.watch_end(job),
                    Blocker::Upload => self.ctx.changes.watch_batch(self.batch),
                };
                watched = Some((blocker, watch));
                continue;
            };
            wait_for_change(shutdown, &watch, remaining.min(longest_wait(blocker))).await;
            watched = Some((blocker, watch));
            let pause = pause.min(remaining);
            shutdown
                .run_until_cancelled(tokio::time::sleep(pause))
                .await;
        }
    }

    /// Fills the page with the next lines that have ended.
    async fn read(&mut self) -> Result<Progress, ApiError> {
        if self.after >= self.total && self.upload == BatchUpload::Open {
            let head = self.ctx.batches.head(self.batch, &self.owner).await?;
            let head = head.ok_or_else(ApiError::not_found)?;
            (self.total, self.upload) = (head.lines as i32, head.upload);
        }
        let last = self.total.min(self.after.saturating_add(PAGE_LINES));
        let lines = if last > self.after {
            let read = self.ctx.reads.run(&self.owner, async |db| {
                batches::results(&mut *db, self.batch, &self.owner, self.after, last).await
            });
            read.await?
        } else {
            Vec::new()
        };
        let mut lines = lines.into_iter().peekable();
        while self.after < last {
            let number = self.after + 1;
            let result = match lines.next_if(|line| line.position == number) {
                Some(line) => match result(line) {
                    Ok(result) => result,
                    Err(job) if self.page.is_empty() => {
                        return Ok(Progress::Blocked(Blocker::Job(job)));
                    }
                    Err(_) => break,
                },
                None => removed(number),
            };
            let mut line = serde_json::to_vec(&result).expect("JSON-able");
            line.push(b'\n');
            self.page.push_back(line.into());
            self.after = number;
        }
        Ok(match self.upload {
            _ if !self.page.is_empty() => Progress::Page,
            BatchUpload::Open => Progress::Blocked(Blocker::Upload),
            BatchUpload::Complete | BatchUpload::BrokenOff => Progress::End,
        })
    }
}

/// How long a stream waits for a notification. One of a job may be lost; the next reading then finds the job ended.
fn longest_wait(blocker: Blocker) -> Duration {
    match blocker {
        Blocker::Job(_) => JOB_READ_EVERY,
        Blocker::Upload => READ_EVERY,
    }
}

/// The result of a line; as an error, the job that has not ended.
fn result(line: Line) -> Result<BatchResult, JobId> {
    let (job, error) = match line.outcome {
        LineOutcome::Refused(problem) => (None, Some(problem)),
        LineOutcome::Job(job) if job.purged_at.is_some() => (None, Some(purged())),
        LineOutcome::Job(job) if job.state.is_terminal() => {
            (Some(Box::new(job_body(*job, None))), None)
        }
        LineOutcome::Job(job) => return Err(job.id),
    };
    Ok(BatchResult {
        custom_id: line.custom_id,
        line: line.position,
        job,
        error,
    })
}

/// The result of a line whose job was removed.
fn removed(line: i32) -> BatchResult {
    BatchResult {
        custom_id: None,
        line,
        job: None,
        error: Some(purged()),
    }
}

fn purged() -> Box<Problem> {
    let detail = "the data of this job was deleted, on request or because its time was over";
    Box::new(Problem::new(ProblemCode::DataPurged, detail))
}
