//! `/v1/workers`: the worker processes.

use actix_web::{HttpRequest, HttpResponse, get, post, web::Data};
use jobs::{
    WorkerId,
    keys::Scope,
    queue::{self, DrainOutcome, LoadedModel, WorkerView},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{ctx::Ctx, http::error::ApiError, limits::keyring::Caller, openapi::NotFound};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(list_workers).service(drain_worker);
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<wire::Worker>,
}

fn worker_body(worker: WorkerView) -> wire::Worker {
    let loaded = worker.loaded.0.into_iter().map(loaded_model_body);
    wire::Worker {
        worker_id: worker.worker_id,
        name: worker.name,
        device: worker.device,
        build: worker.build,
        models: worker.models,
        registered_at: worker.registered_at,
        lease_until: worker.lease_until,
        status: worker.status,
        running: worker.running,
        loaded: loaded.collect(),
    }
}

fn loaded_model_body(loaded: LoadedModel) -> wire::LoadedModel {
    wire::LoadedModel {
        model: loaded.model,
        precision: loaded.precision,
        batch_best: loaded.batch_best,
        artifact: loaded.artifact,
        warning: loaded.warning,
    }
}

/// The worker processes of now and of the last hour, newest first.
#[utoipa::path(
    operation_id = "list_workers", tag = "operating",
    responses(
        (status = 200, description = "The workers", body = WorkerList),
    ),
)]
#[get("/v1/workers")]
async fn list_workers(ctx: Data<Ctx>, caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    let workers = queue::workers(&ctx.db).await?;
    Ok(HttpResponse::Ok().json(WorkerList {
        object: "list",
        data: workers.into_iter().map(worker_body).collect(),
    }))
}

/// Drains a worker: it claims no more jobs, finishes those in hand, and exits. May be repeated.
#[utoipa::path(
    operation_id = "drain_worker", tag = "operating",
    params(("id" = i64, Path, description = "`worker_id` of the list")),
    responses(
        (status = 202, description = "Requested"),
        (status = 204, description = "The worker has exited already"),
        NotFound,
    ),
)]
#[post("/v1/workers/{id}/drain")]
async fn drain_worker(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    let id = request.match_info().query("id").parse();
    let id = WorkerId(id.map_err(|_| ApiError::not_found())?);
    match queue::drain(&ctx.db, id, &caller.audit_name()).await? {
        DrainOutcome::Draining => Ok(HttpResponse::Accepted().finish()),
        DrainOutcome::Gone => Ok(HttpResponse::NoContent().finish()),
        DrainOutcome::NotFound => Err(ApiError::not_found()),
    }
}
