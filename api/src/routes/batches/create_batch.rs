use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::header::{self, HeaderName, HeaderValue},
    web::{Data, Payload},
};
use jobs::{
    BatchId, Problem, ProblemCode, Sha256Digest,
    batches::{self, AppendOutcome, BeginOutcome, ResumeOutcome, Writer},
    keys::Scope,
    queue,
};
use serde_json::{Map, Value};
use tokio::time::{Duration, Instant};

use super::{
    answer::{answer, wait},
    own_batch,
};
use crate::{
    auth::Caller,
    batches::{BatchBody, Intake, Source, Taken},
    ctx::Ctx,
    error::ApiError,
    job_request::{invalid, metadata_fault},
    openapi::{BatchLine, SlowBody},
    routes::create_job::{idempotency_key, key_reused},
    wait::Preferred,
};

/// An upload under a used key takes over from one that nobody has heard of for so long.
const SILENT_SECONDS: f64 = 30.0;
/// Lines that are there are queued after this time, however few they are: often enough to be heard of.
const CHUNK_TIME_MAX: Duration = Duration::from_secs(2);

/// Queues a job for each of many images.
///
/// `application/x-ndjson`: on each line a job as JSON, as `POST /v1/jobs` takes it, and your own `custom_id` of it. Blank
/// lines do not count. `multipart/form-data`: a part `job` first, if you like, with what is asked of all; then a part `image`
/// for each, whose file name is the `custom_id`.
///
/// Jobs begin while the rest is still on its way. A line that is refused is reported by its number and does not sink the
/// others. What was queued before an upload broke off runs; send the same under the same `Idempotency-Key` and it goes on
/// behind the last line that was taken. 202 means that every line was taken.
#[utoipa::path(
    post, path = "/v1/batches", operation_id = "create_batch", tag = "batches",
    params(
        ("metadata.KEY" = Option<String>, Query, description = "Yours, of the batch as a whole"),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, new for each batch: sending the same again queues nothing twice"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds for the batch to end"),
    ),
    request_body(description = "Jobs, one a line, or images, one a part", content(
        (BatchLine = "application/x-ndjson"), (Vec<u8> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "Accepted, and ended while you waited", body = BatchBody),
        (status = 202, description = "Accepted and durable", body = BatchBody,
         headers(("Location" = String, description = "Where to poll"), ("Retry-After" = u32), ("ETag" = String))),
        (status = 400, description = "invalid_request: no line came, or the body broke off", body = Problem, content_type = "application/problem+json"),
        SlowBody,
        (status = 409, description = "idempotency_in_flight", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "invalid_request: too many lines or bytes; what was queued of them is canceled", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "invalid_params, idempotency_key_reused", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[tracing::instrument(skip_all, fields(batch.id, job.owner = caller.owner))]
pub(crate) async fn create_batch(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let preferred = Preferred::of(&request);
    let mut uploading = Uploading {
        ctx: &ctx,
        caller: &caller,
        key: idempotency_key(&request)?,
        metadata: metadata(request.query_string())?,
        source: Source::of(&request, body, &ctx.config.limits)?,
        intake: Intake::new(&ctx, &caller, &request),
        writer: None,
        lines: 0,
    };
    let (batch, replayed) = match Box::pin(uploading.run()).await {
        Ok(batch) => batch,
        Err(error) => return Err(uploading.give_up(error).await),
    };
    tracing::Span::current().record("batch.id", tracing::field::display(batch));
    let batch = match preferred {
        None => own_batch(&ctx, batch, &caller.owner).await?,
        Some(preferred) => {
            let watching = (preferred, ctx.changes.watch_batch(batch));
            wait(&ctx, &watching, batch, &caller.owner, |batch| {
                batch.has_ended()
            })
            .await?
        }
    };
    let mut response = if preferred.is_some() && batch.has_ended() {
        HttpResponse::Ok()
    } else {
        HttpResponse::Accepted()
    };
    response.insert_header((header::LOCATION, format!("/v1/batches/{}", batch.id)));
    if let Some(preferred) = preferred {
        response.insert_header(preferred.applied());
    }
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.insert_header((name, HeaderValue::from_static("true")));
    }
    Ok(answer(response, batch))
}

/// One upload on its way into one batch.
struct Uploading<'a> {
    ctx: &'a Ctx,
    caller: &'a Caller,
    key: Option<String>,
    metadata: Map<String, Value>,
    source: Source,
    intake: Intake<'a>,
    /// From the first line on.
    writer: Option<Writer>,
    /// Lines read so far.
    lines: i32,
}

impl Uploading<'_> {
    /// Takes every line; the batch, and whether it was there already.
    async fn run(&mut self) -> Result<(BatchId, bool), ApiError> {
        let mut known = std::collections::HashSet::new();
        if let Some(batch) = self.earlier().await? {
            let db = &self.ctx.db;
            match batches::resume(db, batch, &self.caller.owner, SILENT_SECONDS).await? {
                ResumeOutcome::NotFound => return Err(ApiError::not_found()),
                ResumeOutcome::InFlight => return Err(in_flight()),
                ResumeOutcome::Complete { lines, sha256 } => {
                    self.pass(lines, sha256).await?;
                    return match self.source.next(&self.ctx.config.limits).await? {
                        Some(_) => Err(key_reused()),
                        None => Ok((batch, true)),
                    };
                }
                ResumeOutcome::From {
                    writer,
                    lines,
                    sha256,
                } => {
                    self.pass(lines, sha256).await?;
                    self.writer = Some(writer);
                    known = batches::taken_beyond(db, batch, lines).await?;
                }
            }
        }
        while let Some(mut chunk) = self.chunk().await? {
            chunk.entries.retain(|(line, _)| !known.contains(line));
            let writer = self.writer().await?;
            match self.intake.take(writer, chunk).await? {
                AppendOutcome::Taken => {}
                AppendOutcome::Canceled => break,
                AppendOutcome::Lost => return Err(in_flight()),
            }
        }
        let Some(writer) = self.writer else {
            let detail = "the batch is empty: there is no line in it";
            return Err(ApiError::new(ProblemCode::InvalidRequest, detail));
        };
        if !batches::seal(&self.ctx.db, writer).await? {
            return Err(in_flight());
        }
        Ok((writer.batch, false))
    }

    /// The batch that the key stands for already.
    async fn earlier(&self) -> Result<Option<BatchId>, ApiError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let earlier = queue::find_earlier_request(&self.ctx.db, &self.caller.owner, key).await?;
        earlier.map_or(Ok(None), |earlier| {
            let batch = earlier.batch_id.ok_or_else(key_reused)?;
            Ok(Some(batch))
        })
    }

    /// Reads lines that were taken before; they have to be the same.
    async fn pass(&mut self, lines: i32, sha256: Option<Sha256Digest>) -> Result<(), ApiError> {
        while self.lines < lines {
            let line = self.source.next(&self.ctx.config.limits).await?;
            line.ok_or_else(key_reused)?;
            self.lines += 1;
        }
        if sha256.is_some_and(|sha256| sha256 != self.source.digest()) {
            return Err(key_reused());
        }
        Ok(())
    }

    /// The next lines; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Taken>, ApiError> {
        let limits = &self.ctx.config.limits;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut since = None;
        while entries.len() < limits.batch_chunk_lines && bytes < limits.batch_chunk_bytes {
            let Some(entry) = self.source.next(limits).await? else {
                break;
            };
            self.lines += 1;
            if self.lines > limits.batch_lines_max {
                return Err(too_many_lines(limits.batch_lines_max));
            }
            bytes += entry.bytes();
            entries.push((self.lines, entry));
            if since.get_or_insert_with(Instant::now).elapsed() > CHUNK_TIME_MAX {
                break;
            }
        }
        Ok((!entries.is_empty()).then(|| Taken {
            lines: self.lines,
            sha256: self.source.digest(),
            entries,
        }))
    }

    /// Makes the batch when the first lines are there.
    async fn writer(&mut self) -> Result<Writer, ApiError> {
        if let Some(writer) = self.writer {
            return Ok(writer);
        }
        let (db, owner) = (&self.ctx.db, &self.caller.owner);
        match batches::begin(db, owner, &self.metadata, self.key.as_deref()).await? {
            BeginOutcome::Yes(writer) => Ok(*self.writer.insert(writer)),
            BeginOutcome::KeyTaken => Err(in_flight()),
        }
    }

    /// What breaks off can go on under the same key. What never will be a batch is taken back.
    async fn give_up(&self, error: ApiError) -> ApiError {
        let Some(writer) = self.writer else {
            return error;
        };
        if !matches!(error.status_code().as_u16(), 413 | 422) {
            return error;
        }
        let db = &self.ctx.db;
        let canceled = batches::cancel(db, writer.batch, &self.caller.owner).await;
        if let Err(cause) = canceled.and(batches::seal(db, writer).await) {
            tracing::warn!(error.cause = %cause, batch.id = %writer.batch, "a refused batch was not taken back");
        }
        error
    }
}

fn in_flight() -> ApiError {
    let detail = "the upload of this batch goes on elsewhere; try again when it is over";
    ApiError::new(ProblemCode::IdempotencyInFlight, detail).retry_after(SILENT_SECONDS as u32)
}

fn too_many_lines(lines_max: i32) -> ApiError {
    let detail = format!("a batch may have up to {lines_max} lines");
    ApiError::new(ProblemCode::InvalidRequest, detail)
        .with_status(actix_web::http::StatusCode::PAYLOAD_TOO_LARGE)
}

/// `metadata.KEY=…` of the query; there is nothing else in it.
fn metadata(query: &str) -> Result<Map<String, Value>, ApiError> {
    let mut metadata = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let key = name
            .strip_prefix("metadata.")
            .ok_or_else(|| invalid(&format!("/{name}"), "invalid", "there is no such parameter"))?;
        metadata.insert(key.to_owned(), Value::String(value.into_owned()));
    }
    match metadata_fault(&metadata) {
        Some(detail) => Err(invalid("/metadata", "invalid", detail)),
        None => Ok(metadata),
    }
}
