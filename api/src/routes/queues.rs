//! `/v1/queues`: pausing and resuming the queue of a model.

use actix_web::{HttpRequest, HttpResponse, post, web::Data};
use jobs::{ProblemCode, keys::Scope, queue};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    ctx::Ctx,
    http::{error::ApiError, paging},
    limits::keyring::Caller,
    openapi::{InvalidParams, NotFound},
};

const WHY_CHARS_MAX: usize = 1_000;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(pause_queue).service(resume_queue);
}

/// The reason of a pause, from the query.
fn why(query: &str) -> Result<Option<String>, ApiError> {
    let mut why = None;
    for (name, value) in paging::query(query) {
        if name != "why" {
            let error = ApiError::new(ProblemCode::InvalidParams, "the only parameter is `why`");
            return Err(error.with_error(&format!("/{name}"), "unknown", "no such parameter"));
        }
        if value.contains('\0') || value.chars().count() > WHY_CHARS_MAX {
            let rule = "must be up to 1000 characters without NUL";
            let error = ApiError::new(ProblemCode::InvalidParams, format!("`why` {rule}"));
            return Err(error.with_error("/why", "invalid", rule));
        }
        why = Some(value.into_owned());
    }
    Ok(why)
}

/// The model in the path; 404 with a NUL, which Postgres does not take.
fn named_model(request: &HttpRequest) -> Result<&str, ApiError> {
    let model = request.match_info().query("model");
    let is_text = !model.contains('\0');
    is_text.then_some(model).ok_or_else(ApiError::not_found)
}

/// Pauses a model: workers claim no more of its jobs. Running jobs finish, and submits are still accepted. May be repeated.
#[utoipa::path(
    operation_id = "pause_queue", tag = "operating",
    params(("model" = String, Path, description = "Name of the model"),
           ("why" = Option<String>, Query, max_length = 1000,
            description = "Shown to operators and by `explain`: up to 1000 characters")),
    responses(
        (status = 204, description = "Paused"),
        NotFound,
        InvalidParams,
    ),
)]
#[post("/v1/queues/{model}/pause")]
async fn pause_queue(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    let model = named_model(&request)?;
    let why = why(request.query_string())?;
    if queue::pause(&ctx.db, model, why.as_deref(), &caller.audit_name()).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(ApiError::not_found())
}

/// Resumes a model: workers claim its jobs again. May be repeated.
#[utoipa::path(
    operation_id = "resume_queue", tag = "operating",
    params(("model" = String, Path, description = "Name of the model")),
    responses(
        (status = 204, description = "ResumeOutcome"),
        NotFound,
    ),
)]
#[post("/v1/queues/{model}/resume")]
async fn resume_queue(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    let model = named_model(&request)?;
    if queue::resume(&ctx.db, model, &caller.audit_name()).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(ApiError::not_found())
}
