use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use jobs::{
    Problem,
    keys::Scope,
    models::{self, SetAliasOutcome, is_alias},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor;
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    job_request::invalid,
    openapi::{InvalidRequest, SlowBody},
    small_body,
};

/// Which version an alias is to mean.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AliasRequest {
    #[schema(minimum = 1)]
    version: i32,
}

/// An alias and what it means now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AliasBody {
    #[schema(example = "alias")]
    object: &'static str,
    model: String,
    alias: String,
    version: i32,
}

/// Lets an alias of a model mean a version from now on: a rollout, or the way back.
///
/// Jobs keep the version that they were submitted with. `default` is the alias of a model that is named without one.
#[utoipa::path(
    put, path = "/v1/models/{name}/aliases/{alias}", operation_id = "set_alias", tag = "models",
    params(("name" = String, Path, description = "Name of the model"),
           ("alias" = String, Path, pattern = "^[a-z][a-z0-9._-]{0,49}$", description = "Lowercase letters, digits, `.`, `_`, `-`, up to 50, a letter first: `stable`")),
    request_body = AliasRequest,
    responses(
        (status = 200, description = "Set", body = AliasBody),
        InvalidRequest,
        (status = 404, description = "not_found: no such model", body = Problem, content_type = "application/problem+json"),
        SlowBody,
        (status = 422, description = "invalid_params: no such version, or it is retired", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set_alias(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let path = request.match_info();
    let (model, alias) = (path.query("name"), path.query("alias"));
    let asked: AliasRequest = small_body::json(&ctx, body).await?;
    if model.contains('\0') {
        return Err(ApiError::not_found());
    }
    if !is_alias(alias) {
        let rule =
            "must be lowercase letters, digits, `.`, `_` or `-`, up to 50, with a letter first";
        return Err(invalid("/alias", "invalid", rule));
    }
    match models::set_alias(&ctx.db, model, alias, asked.version, &actor(&caller)).await? {
        SetAliasOutcome::Set => Ok(HttpResponse::Ok().json(AliasBody {
            object: "alias",
            model: model.to_owned(),
            alias: alias.to_owned(),
            version: asked.version,
        })),
        SetAliasOutcome::NoModel => Err(ApiError::not_found()),
        SetAliasOutcome::NoVersion => Err(invalid(
            "/version",
            "unknown",
            "the model has no such version",
        )),
        SetAliasOutcome::Retired => Err(invalid("/version", "retired", "this version is retired")),
    }
}
