use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    post,
    web::{Data, Payload},
};
use jobs::{
    BatchId, ProblemCode, Sha256Digest,
    batches::{self, AppendOutcome, BeginOutcome, ResumeOutcome, Writer},
    keys::Scope,
    queue,
};
use serde_json::{Map, Value};
use tokio::time::{Duration, Instant};

use super::{batch_response, line_schema::BatchLine, own_batch, wait_for_batch};
use crate::{
    batches::{BatchChunk, BatchIntake, BatchReader},
    ctx::Ctx,
    http::{
        error::ApiError,
        headers::{idempotency_key, key_reused},
        paging,
        waiting::WaitPreference,
    },
    limits::keyring::Caller,
    openapi::SlowBody,
    submit::job_request::metadata_fault,
};

/// An upload with the same key may continue the batch once the first upload has been silent for this long.
const SILENT_SECONDS: f64 = 30.0;
/// JSON without images that is parsed at once, give or take a line: parsed, it may need a hundred times as much memory.
const CHUNK_JSON_BYTES_MAX: usize = 256 << 10;
/// Lines are queued after this time, however few they are. It is shorter than `SILENT_SECONDS`.
const CHUNK_TIME_MAX: Duration = Duration::from_secs(2);

/// Queues a job for each of many images.
///
/// `application/x-ndjson`: each line is a job as JSON, as in `POST /v1/jobs`, with your own `custom_id`. Blank lines are
/// skipped. `multipart/form-data`: an optional part `job` first, which applies to all images; then one part `image` for each
/// image. Its file name is the `custom_id`.
///
/// Jobs start while the rest is still being uploaded. A refused line is reported by its number; the other lines are queued. If
/// an upload breaks off, its queued jobs run. Send the same body with the same `Idempotency-Key` to continue after the last
/// line that was taken. 202 means that every line was taken.
#[utoipa::path(
    operation_id = "create_batch", tag = "batches",
    params(
        ("metadata.KEY" = Option<String>, Query, description = "Your metadata of the whole batch"),
        ("Idempotency-Key" = Option<String>, Header, description = "A key of yours, new for each batch: repeating the request queues nothing twice"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds for the batch to end"),
    ),
    request_body(description = "Jobs, one on each line; or images, one in each part", content(
        (BatchLine = "application/x-ndjson"), (Vec<u8> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "Accepted, and ended within the wait", body = wire::Batch),
        (status = 202, description = "Accepted and durable", body = wire::Batch,
         headers(("Location" = String, description = "Where to poll"), ("Retry-After" = u32), ("ETag" = String))),
        (status = 400, description = "invalid_request: no line came, or the body broke off", body = wire::Problem, content_type = "application/problem+json"),
        SlowBody,
        (status = 409, description = "idempotency_in_flight", body = wire::Problem, content_type = "application/problem+json"),
        (status = 413, description = "invalid_request: too many lines or bytes; what was queued of them is canceled", body = wire::Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = wire::Problem, content_type = "application/problem+json"),
        (status = 422, description = "invalid_params, idempotency_key_reused", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/batches")]
#[tracing::instrument(skip_all, fields(batch.id, job.owner = caller.owner))]
pub(super) async fn create_batch(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let preference = WaitPreference::of(&request);
    let mut upload = BatchUpload {
        ctx: &ctx,
        caller: &caller,
        key: idempotency_key(&request)?,
        metadata: metadata(request.query_string())?,
        reader: BatchReader::of(
            &request,
            body,
            ctx.body_budget.share(&caller.key_id),
            &ctx.config.limits,
        )?,
        intake: BatchIntake::new(&ctx, &caller, &request),
        writer: None,
        lines: 0,
    };
    let (batch, replayed) = match Box::pin(upload.run()).await {
        Ok(batch) => batch,
        Err(error) => return Err(upload.clean_up(error).await),
    };
    // Not held while the client waits.
    drop(upload);
    tracing::Span::current().record("batch.id", tracing::field::display(batch));
    let batch = match preference {
        None => own_batch(&ctx, batch, &caller.owner).await?,
        Some(preference) => {
            let watching = (preference, ctx.changes.watch_batch(batch));
            wait_for_batch(&ctx, &watching, batch, &caller.owner, |batch| {
                batch.has_ended()
            })
            .await?
        }
    };
    let mut response = if preference.is_some() && batch.has_ended() {
        HttpResponse::Ok()
    } else {
        HttpResponse::Accepted()
    };
    response.insert_header((header::LOCATION, format!("/v1/batches/{}", batch.id)));
    if let Some(preference) = preference {
        response.insert_header(preference.applied());
    }
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.insert_header((name, HeaderValue::from_static("true")));
    }
    Ok(batch_response(response, batch))
}

/// One request that uploads a batch.
struct BatchUpload<'a> {
    ctx: &'a Ctx,
    caller: &'a Caller,
    key: Option<String>,
    metadata: Map<String, Value>,
    reader: BatchReader<'a>,
    intake: BatchIntake<'a>,
    /// The right to append; none before the first line.
    writer: Option<Writer>,
    /// Lines read so far.
    lines: i32,
}

impl BatchUpload<'_> {
    /// Takes every line. Returns the batch, and whether an earlier request completed it.
    async fn run(&mut self) -> Result<(BatchId, bool), ApiError> {
        let mut known = std::collections::HashSet::new();
        if let Some(batch) = self.earlier().await? {
            let db = &self.ctx.db;
            match batches::resume(db, batch, &self.caller.owner, SILENT_SECONDS).await? {
                ResumeOutcome::NotFound => return Err(ApiError::not_found()),
                ResumeOutcome::InFlight => return Err(in_flight()),
                ResumeOutcome::Complete { lines, sha256 } => {
                    self.skip(lines, sha256).await?;
                    return match self.reader.next().await? {
                        Some(_) => Err(key_reused()),
                        None => Ok((batch, true)),
                    };
                }
                ResumeOutcome::From {
                    writer,
                    lines,
                    sha256,
                } => {
                    self.skip(lines, sha256).await?;
                    self.writer = Some(writer);
                    known = batches::taken_beyond(db, batch, lines).await?;
                }
            }
        }
        while let Some(mut chunk) = self.chunk().await? {
            chunk.entries.retain(|(line, _)| !known.contains(line));
            let writer = self.writer().await?;
            match self.intake.append(writer, chunk).await? {
                AppendOutcome::Taken => {}
                AppendOutcome::Canceled => break,
                AppendOutcome::Lost => return Err(in_flight()),
            }
            self.reader.release();
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

    /// The batch of an earlier request with this key.
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

    /// Reads over lines that an earlier upload sent.
    ///
    /// # Errors
    /// `idempotency_key_reused`: this upload has other lines.
    async fn skip(&mut self, lines: i32, sha256: Option<Sha256Digest>) -> Result<(), ApiError> {
        while self.lines < lines {
            let line = self.reader.next().await?;
            line.ok_or_else(key_reused)?;
            self.reader.release();
            self.lines += 1;
        }
        if sha256.is_some_and(|sha256| sha256 != self.reader.digest()) {
            return Err(key_reused());
        }
        Ok(())
    }

    /// The next lines; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<BatchChunk>, ApiError> {
        let limits = &self.ctx.config.limits;
        let (mut entries, mut bytes, mut json_bytes) = (Vec::new(), 0, 0);
        let mut since = None;
        while entries.len() < limits.batch_chunk_lines
            && bytes < limits.batch_chunk_bytes
            && json_bytes < CHUNK_JSON_BYTES_MAX
        {
            let Some(entry) = self.reader.next().await? else {
                break;
            };
            self.lines += 1;
            if self.lines > limits.batch_lines_max {
                return Err(too_many_lines(limits.batch_lines_max));
            }
            bytes += entry.bytes();
            json_bytes += entry.json_bytes();
            entries.push((self.lines, entry));
            let is_late = since.get_or_insert_with(Instant::now).elapsed() > CHUNK_TIME_MAX;
            if is_late || self.reader.others_wait() {
                break;
            }
        }
        Ok((!entries.is_empty()).then(|| BatchChunk {
            lines: self.lines,
            sha256: self.reader.digest(),
            entries,
        }))
    }

    /// The right to append. Makes the batch with the first lines.
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

    /// Cancels the batch if the upload is invalid (413, 422). An upload that broke off can continue with its key.
    async fn clean_up(&self, error: ApiError) -> ApiError {
        let Some(writer) = self.writer else {
            return error;
        };
        if !matches!(error.status_code().as_u16(), 413 | 422) {
            return error;
        }
        let db = &self.ctx.db;
        let canceled = batches::cancel(db, writer.batch, &self.caller.owner).await;
        if let Err(cause) = canceled.and(batches::seal(db, writer).await) {
            tracing::warn!(error.cause = %cause, batch.id = %writer.batch, "cannot cancel a refused batch");
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
    ApiError::new(ProblemCode::InvalidRequest, detail).with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// The metadata of the query. Other parameters are refused.
fn metadata(query: &str) -> Result<Map<String, Value>, ApiError> {
    let mut metadata = Map::new();
    for (name, value) in paging::query(query) {
        let key = name.strip_prefix("metadata.").ok_or_else(|| {
            let detail = "there is no such parameter";
            ApiError::invalid_field(&format!("/{name}"), "invalid", detail)
        })?;
        metadata.insert(key.to_owned(), Value::String(value.into_owned()));
    }
    match metadata_fault(&metadata) {
        Some(detail) => Err(ApiError::invalid_field("/metadata", "invalid", detail)),
        None => Ok(metadata),
    }
}
