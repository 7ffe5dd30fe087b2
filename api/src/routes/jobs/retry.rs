//! `POST /v1/jobs/{id}/retry`: an ended job runs again, on the version of its submit or on the current one.

use actix_web::{HttpRequest, HttpResponse, http::header, post, web::Data};
use jobs::{
    JobId, ProblemCode,
    keys::Scope,
    models::current_reference,
    queue::{self, RetryOutcome},
};

use super::{body::etag, job_id, own_job};
use crate::{
    ctx::Ctx,
    http::{error::ApiError, paging::read_query},
    job_fields::job_body,
    limits::keyring::Caller,
    openapi::NotFound,
    submit::forms::resolve_model,
};

/// Queues a `failed`, `expired` or `canceled` job again. It keeps its id and history and gets new attempts.
///
/// The job runs on the version of its model that it was submitted with. With `model=current` it runs on the version that its
/// alias means now: the alias that the job named, or `default`.
#[utoipa::path(
    operation_id = "retry_job", tag = "jobs",
    params(
        ("id" = String, Path, description = "`job_` and 32 hex digits"),
        ("model" = Option<String>, Query, description = "`current`: run on the version that the job's alias means now"),
    ),
    responses(
        (status = 202, description = "Queued again", body = wire::Job,
         headers(("Location" = String, description = "Where to poll"), ("Retry-After" = u32), ("ETag" = String))),
        NotFound,
        (status = 409, description = "not_retryable: it succeeded, or has not ended yet", body = wire::Problem, content_type = "application/problem+json"),
        (status = 410, description = "data_purged: its image or its data was deleted", body = wire::Problem, content_type = "application/problem+json"),
        (status = 422, description = "invalid_params: the current version does not take the parameters of the job", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/jobs/{id}/retry")]
pub(super) async fn retry_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = job_id(&request)?;
    let owner = Some(caller.owner.as_str());
    let retried = if wants_current_model(request.query_string())? {
        queue::retry_on_current_version(&ctx.db, id, owner).await?
    } else {
        queue::retry(&ctx.db, id, owner).await?
    };
    match retried {
        RetryOutcome::Queued => {}
        RetryOutcome::NotTerminal => {
            let detail = "the job has not ended: there is nothing to repeat yet";
            return Err(ApiError::new(ProblemCode::NotRetryable, detail));
        }
        RetryOutcome::Succeeded => {
            let detail = "the job succeeded and its result is final: submit a new one instead";
            return Err(ApiError::new(ProblemCode::NotRetryable, detail));
        }
        RetryOutcome::InputPurged => {
            let detail = "what the job was about is deleted: submit the image again";
            return Err(ApiError::new(ProblemCode::DataPurged, detail));
        }
        RetryOutcome::NoVersion | RetryOutcome::ParamsDoNotFit => {
            explain_misfit(&ctx, id, &caller.owner).await?;
        }
        RetryOutcome::NotFound => return Err(ApiError::not_found()),
    }
    let job = own_job(&ctx, id, &caller.owner).await?;
    let attempts = queue::attempts(&ctx.db, id).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("/v1/jobs/{id}")))
        .insert_header((
            header::RETRY_AFTER,
            ctx.retry_after.seconds(&job).to_string(),
        ))
        .insert_header((header::ETAG, etag(&job)))
        .json(job_body(job, Some(attempts))))
}

/// Whether a retry is to run on the current version: `?model=current`.
pub(crate) fn wants_current_model(query: &str) -> Result<bool, ApiError> {
    let mut current = false;
    read_query(query, |name, value| match (name, value) {
        ("model", "current") => {
            current = true;
            Ok(())
        }
        ("model", _) => Err("must be `current`"),
        _ => Err("there is no such parameter"),
    })?;
    Ok(current)
}

/// Why the current version cannot run a job: there is none, or the job has parameters that the version does not take.
async fn explain_misfit(ctx: &Ctx, id: JobId, owner: &str) -> Result<(), ApiError> {
    let job = own_job(ctx, id, owner).await?;
    let model = resolve_model(ctx, Some(&current_reference(&job.model_ref))).await?;
    let params = job.params.as_object().cloned().unwrap_or_default();
    model.manifest.params(&params)?;
    // The alias has moved since the refusal.
    let detail = "the model has changed during this request: try again";
    Err(ApiError::new(ProblemCode::NotRetryable, detail))
}
