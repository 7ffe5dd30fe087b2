//! One file a route, named after what it does.

mod cancel_job;
mod create_job;
mod delete_job;
mod docs;
mod explain_job;
mod get_job;
mod get_result;
mod health;
mod list_jobs;
mod models;
mod queues;
mod retry_job;
mod unknown;
mod workers;

use actix_web::{HttpRequest, http::header, web};
use jobs::{Job, JobId, ProblemCode};

use crate::{auth::Caller, ctx::Ctx, error::ApiError};

pub(crate) use self::{
    cancel_job::__path_cancel_job,
    create_job::__path_create_job,
    delete_job::__path_delete_job,
    explain_job::__path_explain_job,
    get_job::__path_get_job,
    get_result::__path_get_result,
    list_jobs::__path_list_jobs,
    models::{__path_get_model, __path_list_models, __path_list_versions},
    queues::{__path_pause_queue, __path_resume_queue},
    retry_job::__path_retry_job,
    workers::{__path_drain_worker, __path_list_workers},
};

/// Every path, so that a wrong method on a known one is told apart from an unknown one.
pub(crate) fn register(app: &mut web::ServiceConfig) {
    let resource = |path: &str| web::resource(path).default_service(web::to(unknown::method));
    app.service(
        resource("/v1/jobs")
            .route(web::post().to(create_job::create_job))
            .route(web::get().to(list_jobs::list_jobs)),
    )
    .service(
        resource("/v1/jobs/{id}")
            .route(web::get().to(get_job::get_job))
            .route(web::delete().to(delete_job::delete_job)),
    )
    .service(resource("/v1/jobs/{id}/result").route(web::get().to(get_result::get_result)))
    .service(resource("/v1/jobs/{id}/cancel").route(web::post().to(cancel_job::cancel_job)))
    .service(resource("/v1/jobs/{id}/retry").route(web::post().to(retry_job::retry_job)))
    .service(resource("/v1/jobs/{id}/explain").route(web::get().to(explain_job::explain_job)))
    .service(resource("/v1/queues/{model}/pause").route(web::post().to(queues::pause_queue)))
    .service(resource("/v1/queues/{model}/resume").route(web::post().to(queues::resume_queue)))
    .service(resource("/v1/workers").route(web::get().to(workers::list_workers)))
    .service(resource("/v1/workers/{id}/drain").route(web::post().to(workers::drain_worker)))
    .service(resource("/v1/models").route(web::get().to(models::list_models)))
    .service(resource("/v1/models/{name}").route(web::get().to(models::get_model)))
    .service(resource("/v1/models/{name}/versions").route(web::get().to(models::list_versions)))
    .service(resource("/livez").route(web::get().to(health::livez)))
    .service(resource("/readyz").route(web::get().to(health::readyz)))
    .service(resource("/openapi.json").route(web::get().to(docs::openapi_json)))
    .service(resource("/docs").route(web::get().to(docs::docs)))
    .service(resource("/problems").route(web::get().to(docs::problems)))
    .service(resource("/problems/{code}").route(web::get().to(docs::problem)))
    .default_service(web::to(unknown::path));
}

/// The id in a path; one that cannot be an id is an id of nothing.
fn job_id(request: &HttpRequest) -> Result<JobId, ApiError> {
    let id = request.match_info().query("id");
    id.parse().map_err(|_| ApiError::not_found())
}

/// The caller's own job; 404 if there is none, 410 if its data was deleted.
pub(crate) async fn own_job(ctx: &Ctx, id: JobId, owner: &str) -> Result<Job, ApiError> {
    let job = jobs::queue::find(&ctx.db, id, owner).await?;
    let job = job.ok_or_else(ApiError::not_found)?;
    if job.purged_at.is_some() {
        let detail = "the data of this job was deleted, on request or because its time was over";
        return Err(ApiError::new(ProblemCode::DataPurged, detail));
    }
    Ok(job)
}

/// Who acts, for the audit.
fn actor(caller: &Caller) -> String {
    format!("api key {} of {}", caller.key_id, caller.owner)
}

/// Whether the client has this version already.
fn has_version(request: &HttpRequest, etag: &str) -> bool {
    let header = request.headers().get(header::IF_NONE_MATCH);
    header
        .and_then(|value| value.to_str().ok())
        .is_some_and(|known| {
            known
                .split(',')
                .map(str::trim)
                .any(|known| known == "*" || known.trim_start_matches("W/") == etag)
        })
}
