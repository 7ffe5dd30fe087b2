use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    WorkerId,
    keys::Scope,
    queue::{self, DrainOutcome, WorkerView},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::actor;
use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::NotFound};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<WorkerView>,
}

/// The worker processes that are there, and those that were within the last hour; newest first.
#[utoipa::path(
    get, path = "/v1/workers", operation_id = "list_workers", tag = "operating",
    responses(
        (status = 200, description = "The workers", body = WorkerList),
    ),
)]
pub(crate) async fn list_workers(ctx: Data<Ctx>, caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    Ok(HttpResponse::Ok().json(WorkerList {
        object: "list",
        data: queue::workers(&ctx.db).await?,
    }))
}

/// Asks a worker to claim nothing more, to finish what it has, and to leave. Repeating is fine.
#[utoipa::path(
    post, path = "/v1/workers/{id}/drain", operation_id = "drain_worker", tag = "operating",
    params(("id" = i64, Path, description = "`worker_id` of the list")),
    responses(
        (status = 202, description = "Asked"),
        (status = 204, description = "It has left already"),
        NotFound,
    ),
)]
pub(crate) async fn drain_worker(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    let id = request.match_info().query("id").parse();
    let id = WorkerId(id.map_err(|_| ApiError::not_found())?);
    match queue::drain(&ctx.db, id, &actor(&caller)).await? {
        DrainOutcome::Draining => Ok(HttpResponse::Accepted().finish()),
        DrainOutcome::Gone => Ok(HttpResponse::NoContent().finish()),
        DrainOutcome::NotFound => Err(ApiError::not_found()),
    }
}
