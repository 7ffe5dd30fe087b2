use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    Problem,
    keys::Scope,
    models::{self, RetireOutcome},
};

use super::actor;
use crate::{auth::Caller, ctx::Ctx, error::ApiError, job_request::invalid, openapi::NotFound};

/// Lets no new job name this version. Jobs that have it already run. Repeating is fine.
#[utoipa::path(
    post, path = "/v1/models/{name}/versions/{version}/retire", operation_id = "retire_version", tag = "models",
    params(("name" = String, Path, description = "Name of the model"),
           ("version" = i32, Path, description = "Its number")),
    responses(
        (status = 204, description = "Retired"),
        NotFound,
        (status = 422, description = "invalid_params: an alias means it, and has to be moved first", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn retire_version(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let path = request.match_info();
    let model = path.query("name");
    let version = path.query("version").parse().ok();
    let (Some(version), false) = (version, model.contains('\0')) else {
        return Err(ApiError::not_found());
    };
    match models::retire(&ctx.db, model, version, &actor(&caller)).await? {
        RetireOutcome::Done => Ok(HttpResponse::NoContent().finish()),
        RetireOutcome::NotFound => Err(ApiError::not_found()),
        RetireOutcome::Aliased => {
            let detail = "an alias means this version: move it to another one first";
            Err(invalid("/version", "aliased", detail))
        }
    }
}
