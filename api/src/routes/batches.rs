//! `/v1/batches`: many images at once.

pub(crate) mod body;
mod create;
mod line_schema;
pub(crate) mod results;

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, get, http::header, post, web::Data,
};
use jobs::{
    BatchId, ProblemCode,
    batches::{self, Batch, BatchStatus},
    keys::Scope,
    queue::JobWatch,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use self::body::{batch_body, etag};
use crate::{
    ctx::Ctx,
    http::{
        error::ApiError,
        headers::has_version,
        paging::{self, cut_page, parse_limit},
        waiting::{WaitPreference, wait_for_change},
    },
    limits::keyring::Caller,
    openapi::{InvalidParams, NotFound},
    routes::jobs::retry::wants_current_model,
};

const LIMIT_DEFAULT: u16 = 20;
const LIMIT_MAX: u16 = 100;

/// How often a waiting request looks at the batch: the end of a single job does not wake it. All requests that wait share a
/// reading.
const READ_EVERY: Duration = Duration::from_secs(1);

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(create::create_batch)
        .service(list_batches)
        .service(get_batch)
        .service(results::get_batch_results)
        .service(cancel_batch)
        .service(retry_failed);
}

/// The id in a path; 404 if it cannot be one.
fn batch_id(request: &HttpRequest) -> Result<BatchId, ApiError> {
    let id = request.match_info().query("id");
    id.parse().map_err(|_| ApiError::not_found())
}

/// The caller's own batch; 404 if there is none.
async fn own_batch(ctx: &Ctx, id: BatchId, owner: &str) -> Result<Batch, ApiError> {
    let batch = ctx.batches.find(id, owner).await?;
    batch.ok_or_else(ApiError::not_found)
}

/// Waits until the batch is as the client wants it, the time is over, or the process shuts down. Returns the batch as it is then.
async fn wait_for_batch(
    ctx: &Ctx,
    (preference, watch): &(WaitPreference, JobWatch),
    id: BatchId,
    owner: &str,
    is_wanted: impl Fn(&Batch) -> bool,
) -> Result<Batch, ApiError> {
    let mut batch = own_batch(ctx, id, owner).await?;
    loop {
        let remaining = preference.remaining(ctx.shutdown());
        let Some(remaining) = remaining.filter(|_| !is_wanted(&batch)) else {
            return Ok(batch);
        };
        let longest = remaining.min(READ_EVERY);
        batch = if wait_for_change(ctx.shutdown(), watch, longest).await {
            own_batch(ctx, id, owner).await?
        } else {
            let recent = ctx.batches.find_recent(id, owner).await?;
            recent.ok_or_else(ApiError::not_found)?
        };
    }
}

/// The batch, its `ETag`, and when to ask again.
fn batch_response(mut response: HttpResponseBuilder, batch: Batch) -> HttpResponse {
    if !batch.has_ended() {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    response
        .insert_header((header::ETAG, etag(&batch)))
        .json(batch_body(batch))
}

/// A batch: how many of its jobs are waiting, running and finished.
#[utoipa::path(
    operation_id = "get_batch", tag = "batches",
    params(("id" = String, Path, description = "`batch_` and 32 hex digits"),
           ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds: for any change if you send `If-None-Match`, else for the end"),
           ("If-None-Match" = Option<String>, Header, description = "The `ETag` that you have")),
    responses(
        (status = 200, description = "The batch", body = wire::Batch, headers(("ETag" = String), ("Retry-After" = u32))),
        (status = 304, description = "You have this version"),
        NotFound,
    ),
)]
#[get("/v1/batches/{id}")]
async fn get_batch(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = batch_id(&request)?;
    let preference = WaitPreference::of(&request);
    let batch = match preference {
        None => own_batch(&ctx, id, &caller.owner).await?,
        Some(preference) => {
            let watching = (preference, ctx.changes.watch_batch(id));
            let sends_etag = request.headers().contains_key(header::IF_NONE_MATCH);
            let is_wanted = |batch: &Batch| {
                batch.has_ended() || (sends_etag && !has_version(&request, &etag(batch)))
            };
            wait_for_batch(&ctx, &watching, id, &caller.owner, is_wanted).await?
        }
    };
    let tag = etag(&batch);
    let is_known = has_version(&request, &tag);
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    if let Some(preference) = preference {
        response.insert_header(preference.applied());
    }
    if is_known {
        return Ok(response.insert_header((header::ETAG, tag)).finish());
    }
    Ok(batch_response(response, batch))
}

/// One page of batches, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<wire::Batch>,
    /// The `cursor` of the next page; empty on the last page.
    next_cursor: Option<String>,
}

/// Your batches, newest first.
#[utoipa::path(
    operation_id = "list_batches", tag = "batches",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 100, description = "1 to 100 batches a page; 20 by default"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = BatchList, headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        InvalidParams,
    ),
)]
#[get("/v1/batches")]
async fn list_batches(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let (before, limit) = list_query(request.query_string())?;
    let read = ctx.reads.run(&caller.owner, async |db| {
        batches::list(&mut *db, &caller.owner, before, limit + 1).await
    });
    let mut page = read.await?;
    let next_cursor = cut_page(&mut page, limit, |batch| batch.id.to_string());
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = &next_cursor {
        let next = format!("</v1/batches?limit={limit}&cursor={cursor}>; rel=\"next\"");
        response.insert_header((header::LINK, next));
    }
    Ok(response.json(BatchList {
        object: "list",
        data: page.into_iter().map(batch_body).collect(),
        next_cursor,
    }))
}

/// The cursor and the limit of a list.
pub(crate) fn list_query(query: &str) -> Result<(Option<BatchId>, u16), ApiError> {
    let (mut before, mut limit) = (None, LIMIT_DEFAULT);
    for (name, value) in paging::query(query) {
        let fault = match &*name {
            "cursor" => match value.parse() {
                Ok(cursor) => {
                    before = Some(cursor);
                    continue;
                }
                Err(_) => "is not a cursor of ours",
            },
            "limit" => match parse_limit(&value, LIMIT_MAX) {
                Some(parsed) => {
                    limit = parsed;
                    continue;
                }
                None => "must lie in 1..=100",
            },
            _ => "there is no such parameter",
        };
        return Err(ApiError::invalid_field(
            &format!("/{name}"),
            "invalid",
            fault,
        ));
    }
    Ok((before, limit))
}

/// Cancels every unended job of a batch: a waiting job at once, a running job when its worker stops.
///
/// Ended jobs do not change. A running upload of the batch takes no more lines. May be repeated.
#[utoipa::path(
    operation_id = "cancel_batch", tag = "batches",
    params(("id" = String, Path, description = "`batch_` and 32 hex digits")),
    responses(
        (status = 200, description = "Canceled", body = wire::Batch),
        (status = 202, description = "Requested; some of its jobs still run", body = wire::Batch),
        NotFound,
        (status = 409, description = "job_terminal: it ended in another way", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/batches/{id}/cancel")]
async fn cancel_batch(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = batch_id(&request)?;
    let before = own_batch(&ctx, id, &caller.owner).await?;
    if before.has_ended() && before.status() != BatchStatus::Canceled {
        let detail = "every job of the batch has ended already: there is nothing to cancel";
        return Err(ApiError::new(ProblemCode::JobTerminal, detail));
    }
    if batches::cancel(&ctx.db, id, &caller.owner).await? {
        // The cancellation is committed: if this request breaks off here, housekeeping cancels the rest.
        while batches::cancel_some(&ctx.db, Some(id)).await? > 0 {}
    }
    let batch = own_batch(&ctx, id, &caller.owner).await?;
    let response = if batch.has_ended() {
        HttpResponse::Ok()
    } else {
        HttpResponse::Accepted()
    };
    Ok(batch_response(response, batch))
}

/// Queues every failed job of a batch again, like `POST /v1/jobs/{id}/retry`. The batch runs again.
///
/// Refused lines stay refused. Jobs whose image was deleted stay failed. With `model=current` the jobs run on the version that
/// their alias means now; jobs whose parameters do not fit that version stay failed.
#[utoipa::path(
    operation_id = "retry_failed", tag = "batches",
    params(
        ("id" = String, Path, description = "`batch_` and 32 hex digits"),
        ("model" = Option<String>, Query, description = "`current`: run on the version that the alias of each job means now"),
    ),
    responses(
        (status = 200, description = "There was nothing to retry", body = wire::Batch),
        (status = 202, description = "Queued again", body = wire::Batch),
        NotFound,
        InvalidParams,
    ),
)]
#[post("/v1/batches/{id}/retry_failed")]
async fn retry_failed(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = batch_id(&request)?;
    let on_current_version = wants_current_model(request.query_string())?;
    own_batch(&ctx, id, &caller.owner).await?;
    let retried = batches::retry_failed(&ctx.db, id, &caller.owner, on_current_version);
    let queued = retried.await?;
    let response = if queued > 0 {
        HttpResponse::Accepted()
    } else {
        HttpResponse::Ok()
    };
    let batch = own_batch(&ctx, id, &caller.owner).await?;
    Ok(batch_response(response, batch))
}
