//! One file a route, named after what it does.

mod batches;
mod cancel_job;
mod console;
mod create_job;
mod create_key;
mod create_upload;
mod delete_job;
mod docs;
mod explain_job;
mod get_job;
mod get_result;
mod health;
mod images;
mod job_events;
mod list_events;
mod list_jobs;
mod list_keys;
mod models;
mod queues;
mod retire_version;
mod retry_job;
mod revoke_key;
mod set_alias;
mod stats;
mod unknown;
mod usage;
mod webhook_deliveries;
mod webhook_endpoints;
mod webhook_secret;
mod workers;

use actix_web::{HttpRequest, http::header, web};
use jobs::{Job, JobId, ProblemCode};

use crate::{auth::Caller, ctx::Ctx, error::ApiError};

pub(crate) use self::{
    batches::{
        __path_cancel_batch, __path_create_batch, __path_get_batch, __path_get_batch_results,
        __path_list_batches, __path_retry_failed,
    },
    cancel_job::__path_cancel_job,
    create_job::__path_create_job,
    create_key::__path_create_key,
    create_upload::__path_create_upload,
    delete_job::__path_delete_job,
    explain_job::__path_explain_job,
    get_job::__path_get_job,
    get_result::__path_get_result,
    images::{
        __path_create_image, __path_delete_image, __path_get_image, __path_get_image_content,
    },
    job_events::__path_job_events,
    list_events::__path_list_events,
    list_jobs::__path_list_jobs,
    list_keys::__path_list_keys,
    models::{__path_get_model, __path_list_models, __path_list_versions},
    queues::{__path_pause_queue, __path_resume_queue},
    retire_version::__path_retire_version,
    retry_job::__path_retry_job,
    revoke_key::__path_revoke_key,
    set_alias::__path_set_alias,
    stats::__path_get_stats,
    usage::__path_get_usage,
    webhook_deliveries::{__path_list_webhook_deliveries, __path_redeliver_webhook},
    webhook_endpoints::{
        __path_create_webhook_endpoint, __path_delete_webhook_endpoint,
        __path_list_webhook_endpoints,
    },
    webhook_secret::{__path_get_webhook_secret, __path_rotate_webhook_secret},
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
    .service(resource("/v1/jobs/{id}/events").route(web::get().to(job_events::job_events)))
    .service(resource("/v1/events").route(web::get().to(list_events::list_events)))
    .service(
        resource("/v1/webhook_endpoints")
            .route(web::post().to(webhook_endpoints::create_webhook_endpoint))
            .route(web::get().to(webhook_endpoints::list_webhook_endpoints)),
    )
    .service(
        resource("/v1/webhook_endpoints/{id}")
            .route(web::delete().to(webhook_endpoints::delete_webhook_endpoint)),
    )
    .service(
        resource("/v1/webhook_secret").route(web::get().to(webhook_secret::get_webhook_secret)),
    )
    .service(
        resource("/v1/webhook_secret/rotate")
            .route(web::post().to(webhook_secret::rotate_webhook_secret)),
    )
    .service(
        resource("/v1/webhook_deliveries")
            .route(web::get().to(webhook_deliveries::list_webhook_deliveries)),
    )
    .service(
        resource("/v1/webhook_deliveries/{id}/redeliver")
            .route(web::post().to(webhook_deliveries::redeliver_webhook)),
    )
    .service(resource("/v1/jobs/{id}/cancel").route(web::post().to(cancel_job::cancel_job)))
    .service(resource("/v1/jobs/{id}/retry").route(web::post().to(retry_job::retry_job)))
    .service(resource("/v1/jobs/{id}/explain").route(web::get().to(explain_job::explain_job)))
    .service(
        resource("/v1/batches")
            .route(web::post().to(batches::create_batch))
            .route(web::get().to(batches::list_batches)),
    )
    .service(resource("/v1/batches/{id}").route(web::get().to(batches::get_batch)))
    .service(resource("/v1/batches/{id}/results").route(web::get().to(batches::get_batch_results)))
    .service(resource("/v1/batches/{id}/cancel").route(web::post().to(batches::cancel_batch)))
    .service(resource("/v1/batches/{id}/retry_failed").route(web::post().to(batches::retry_failed)))
    .service(resource("/v1/uploads").route(web::post().to(create_upload::create_upload)))
    .service(resource("/v1/images").route(web::post().to(images::create_image)))
    .service(
        resource("/v1/images/{sha256}")
            .route(web::get().to(images::get_image))
            .route(web::delete().to(images::delete_image)),
    )
    .service(
        resource("/v1/images/{sha256}/content").route(web::get().to(images::get_image_content)),
    )
    .service(resource("/v1/queues/{model}/pause").route(web::post().to(queues::pause_queue)))
    .service(resource("/v1/queues/{model}/resume").route(web::post().to(queues::resume_queue)))
    .service(resource("/v1/workers").route(web::get().to(workers::list_workers)))
    .service(resource("/v1/workers/{id}/drain").route(web::post().to(workers::drain_worker)))
    .service(resource("/v1/models").route(web::get().to(models::list_models)))
    .service(resource("/v1/models/{name}").route(web::get().to(models::get_model)))
    .service(resource("/v1/models/{name}/versions").route(web::get().to(models::list_versions)))
    .service(
        resource("/v1/models/{name}/aliases/{alias}").route(web::put().to(set_alias::set_alias)),
    )
    .service(
        resource("/v1/models/{name}/versions/{version}/retire")
            .route(web::post().to(retire_version::retire_version)),
    )
    .service(resource("/v1/stats").route(web::get().to(stats::get_stats)))
    .service(resource("/v1/usage").route(web::get().to(usage::get_usage)))
    .service(
        resource("/v1/api_keys")
            .route(web::post().to(create_key::create_key))
            .route(web::get().to(list_keys::list_keys)),
    )
    .service(resource("/v1/api_keys/{id}").route(web::delete().to(revoke_key::revoke_key)))
    .service(resource("/livez").route(web::get().to(health::livez)))
    .service(resource("/readyz").route(web::get().to(health::readyz)))
    .service(resource("/openapi.json").route(web::get().to(docs::openapi_json)))
    .service(resource("/docs").route(web::get().to(docs::docs)))
    .service(resource("/console").route(web::get().to(console::console)))
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
    let job = ctx.finder.find(id, owner).await?;
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

/// A query parameter that is not acceptable.
fn query_fault(name: &str, detail: &str) -> ApiError {
    ApiError::new(
        ProblemCode::InvalidParams,
        "a query parameter is not acceptable",
    )
    .with_error(&format!("/{name}"), "invalid", detail)
}

/// The `Link` to the next page: the same request with another cursor.
fn next_link(request: &HttpRequest, cursor: &str) -> (header::HeaderName, String) {
    let query = form_urlencoded::parse(request.query_string().as_bytes());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query.filter(|(name, _)| name != "cursor"))
        .append_pair("cursor", cursor)
        .finish();
    let link = format!("<{}?{query}>; rel=\"next\"", request.path());
    (header::LINK, link)
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
