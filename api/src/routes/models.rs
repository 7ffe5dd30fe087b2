use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    keys::Scope,
    models::{self, DEFAULT_ALIAS, ModelVersion},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::NotFound};

/// A model and the version that its name means.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelBody {
    name: String,
    #[schema(example = "model")]
    object: &'static str,
    task: String,
    /// Whether jobs that name no model get this one.
    is_default: bool,
    /// The version that the alias `default` points to.
    default_version: Option<i32>,
    /// What a job may set, with bounds and defaults.
    #[schema(value_type = Object)]
    params: Value,
    license: Option<String>,
    source: Option<String>,
}

/// One immutable version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionBody {
    name: String,
    version: i32,
    #[schema(example = "sha256:9c…")]
    digest: String,
    task: String,
    aliases: Vec<String>,
    retired: bool,
    #[schema(value_type = Object)]
    manifest: Value,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<ModelBody>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<VersionBody>,
}

fn body(versions: &[ModelVersion]) -> Option<ModelBody> {
    let is_default =
        |version: &&ModelVersion| version.aliases.iter().any(|alias| alias == DEFAULT_ALIAS);
    let default = versions.iter().find(is_default);
    let shown = default.or(versions.first())?;
    Some(ModelBody {
        name: shown.name.clone(),
        object: "model",
        task: shown.manifest.task.to_string(),
        is_default: shown.is_default,
        default_version: default.map(|version| version.version),
        params: serde_json::to_value(&shown.manifest.params).unwrap_or_default(),
        license: shown.manifest.license.clone(),
        source: shown.manifest.source.clone(),
    })
}

/// The models that jobs may name.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "list_models", tag = "models",
    responses(
        (status = 200, description = "Every model", body = ModelList),
    ),
)]
pub(crate) async fn list_models(ctx: Data<Ctx>, caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let versions = models::list(&ctx.db).await?;
    let by_name = versions.chunk_by(|a, b| a.name == b.name);
    let data = by_name.filter_map(body).collect();
    Ok(HttpResponse::Ok().json(ModelList {
        object: "list",
        data,
    }))
}

/// One model and its parameters.
#[utoipa::path(
    get, path = "/v1/models/{name}", operation_id = "get_model", tag = "models",
    params(("name" = String, Path, description = "Its name, without alias or version")),
    responses(
        (status = 200, description = "The model", body = ModelBody),
        NotFound,
    ),
)]
pub(crate) async fn get_model(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let versions = of_name(&ctx, &caller, &request).await?;
    Ok(HttpResponse::Ok().json(body(&versions)))
}

/// Every version of a model, newest first.
#[utoipa::path(
    get, path = "/v1/models/{name}/versions", operation_id = "list_versions", tag = "models",
    params(("name" = String, Path, description = "Its name, without alias or version")),
    responses(
        (status = 200, description = "Its versions", body = VersionList),
        NotFound,
    ),
)]
pub(crate) async fn list_versions(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let data = of_name(&ctx, &caller, &request)
        .await?
        .into_iter()
        .map(|version| VersionBody {
            name: version.name,
            version: version.version,
            digest: version.digest.to_string(),
            task: version.manifest.task.to_string(),
            aliases: version.aliases,
            retired: version.retired,
            manifest: serde_json::to_value(version.manifest).unwrap_or_default(),
        });
    Ok(HttpResponse::Ok().json(VersionList {
        object: "list",
        data: data.collect(),
    }))
}

async fn of_name(
    ctx: &Ctx,
    caller: &Caller,
    request: &HttpRequest,
) -> Result<Vec<ModelVersion>, ApiError> {
    caller.needs(Scope::Read)?;
    let name = request.match_info().query("name");
    let mut versions = models::list(&ctx.db).await?;
    versions.retain(|version| version.name == name);
    if versions.is_empty() {
        Err(ApiError::not_found())
    } else {
        Ok(versions)
    }
}
