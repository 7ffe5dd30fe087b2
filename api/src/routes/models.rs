//! `/v1/models`: what jobs may ask for.

mod push;

use actix_web::{
    HttpRequest, HttpResponse, delete, get, post, put,
    web::{Data, Payload},
};
use jobs::{
    keys::Scope,
    models::{
        self, DEFAULT_ALIAS, DeleteAliasOutcome, ModelVersion, PrefetchOutcome, RetireOutcome,
        SetAliasOutcome, VersionState, is_alias,
    },
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use wire::{Alias, AliasRequest, Model, Object, Prefetch};

use crate::{
    ctx::Ctx,
    http::{error::ApiError, json::read_json},
    limits::keyring::Caller,
    openapi::{InvalidRequest, NotFound, SlowBody},
};

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(list_models)
        .service(get_model)
        .service(list_versions)
        .service(push::push_version)
        .service(set_alias)
        .service(delete_alias)
        .service(retire_version)
        .service(unretire_version)
        .service(prefetch_version);
}

const ALIAS_RULE: &str =
    "must be lowercase letters, digits, `.`, `_` or `-`, up to 50, with a letter first";

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<wire::ModelVersion>,
}

fn model_body(versions: &[ModelVersion]) -> Option<Model> {
    let is_default =
        |version: &&ModelVersion| version.aliases.iter().any(|alias| alias == DEFAULT_ALIAS);
    let default = versions.iter().find(is_default);
    let is_ready = |version: &&ModelVersion| version.state == VersionState::Ready;
    let newest = versions.iter().find(is_ready).or(versions.first());
    let shown = default.or(newest)?;
    Some(Model {
        name: shown.name.clone(),
        object: Object::Model,
        task: shown.manifest.task.to_string(),
        is_default: shown.is_default,
        default_version: default.map(|version| version.version),
        params: params(shown),
        license: shown.manifest.license.clone(),
        source: shown.manifest.source.clone(),
    })
}

/// The parameters that a job may set, as JSON.
fn params(version: &ModelVersion) -> Map<String, Value> {
    match serde_json::to_value(&version.manifest.params) {
        Ok(Value::Object(params)) => params,
        _ => Map::new(),
    }
}

/// The models that jobs may name.
#[utoipa::path(
    operation_id = "list_models", tag = "models",
    responses(
        (status = 200, description = "Every model", body = ModelList),
    ),
)]
#[get("/v1/models")]
async fn list_models(ctx: Data<Ctx>, caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let versions = models::list(&ctx.db).await?;
    let by_name = versions.chunk_by(|a, b| a.name == b.name);
    let is_usable = |versions: &&[ModelVersion]| {
        let mut versions = versions.iter();
        versions.any(|version| version.state == VersionState::Ready)
    };
    let data = by_name.filter(is_usable).filter_map(model_body).collect();
    Ok(HttpResponse::Ok().json(ModelList {
        object: "list",
        data,
    }))
}

/// One model and its parameters.
#[utoipa::path(
    operation_id = "get_model", tag = "models",
    params(("name" = String, Path, description = "Its name, without alias or version")),
    responses(
        (status = 200, description = "The model", body = Model),
        NotFound,
    ),
)]
#[get("/v1/models/{name}")]
async fn get_model(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let versions = versions_of(&ctx, &caller, &request).await?;
    Ok(HttpResponse::Ok().json(model_body(&versions)))
}

/// Every version of a model, newest first.
///
/// A key that may `operate` or `admin` also sees why a version was rejected, or could not be loaded.
#[utoipa::path(
    operation_id = "list_versions", tag = "models",
    params(("name" = String, Path, description = "Its name, without alias or version")),
    responses(
        (status = 200, description = "Its versions", body = VersionList),
        NotFound,
    ),
)]
#[get("/v1/models/{name}/versions")]
async fn list_versions(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let sees_causes = caller.may(Scope::Operate) || caller.may(Scope::Admin);
    let data = versions_of(&ctx, &caller, &request)
        .await?
        .into_iter()
        .map(|version| version_body(version, sees_causes));
    Ok(HttpResponse::Ok().json(VersionList {
        object: "list",
        data: data.collect(),
    }))
}

/// `sees_causes`: errors of libtorch are for operators, never for clients of jobs.
fn version_body(version: ModelVersion, sees_causes: bool) -> wire::ModelVersion {
    let load_error = version.load_error.filter(|_| sees_causes);
    wire::ModelVersion {
        name: version.name,
        version: version.version,
        digest: version.digest.to_string(),
        task: version.manifest.task.to_string(),
        aliases: version.aliases,
        retired: version.retired,
        state: version.state.as_str().into(),
        state_cause: version.state_cause.filter(|_| sees_causes),
        state_worker: version.state_worker.filter(|_| sees_causes),
        alias_wanted: version.alias_wanted.filter(|_| sees_causes),
        load_error: load_error.map(|error| wire::LoadErrorNote {
            cause: error.cause,
            worker: error.worker,
            at: error.at,
        }),
        manifest: serde_json::to_value(version.manifest).unwrap_or_default(),
    }
}

async fn versions_of(
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

/// Points an alias of a model to a version: a rollout or a rollback.
///
/// Existing jobs keep their version. A model without an alias in its reference means the alias `default`.
#[utoipa::path(
    operation_id = "set_alias", tag = "models",
    params(("name" = String, Path, description = "Name of the model"),
           ("alias" = String, Path, pattern = "^[a-z][a-z0-9._-]{0,49}$", description = "Lowercase letters, digits, `.`, `_`, `-`, up to 50, a letter first: `stable`")),
    request_body = AliasRequest,
    responses(
        (status = 200, description = "Set", body = Alias),
        InvalidRequest,
        (status = 404, description = "not_found: no such model", body = wire::Problem, content_type = "application/problem+json"),
        SlowBody,
        (status = 422, description = "invalid_params: no such version, or it is retired, validating or rejected", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[put("/v1/models/{name}/aliases/{alias}")]
async fn set_alias(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let path = request.match_info();
    let (model, alias) = (path.query("name"), path.query("alias"));
    let AliasRequest { version } = read_json(body, &ctx.config.limits).await?;
    if model.contains('\0') {
        return Err(ApiError::not_found());
    }
    if !is_alias(alias) {
        return Err(ApiError::invalid_field("/alias", "invalid", ALIAS_RULE));
    }
    match models::set_alias(&ctx.db, model, alias, version, &caller.audit_name()).await? {
        SetAliasOutcome::Set { from } => Ok(HttpResponse::Ok().json(Alias {
            object: Object::Alias,
            model: model.to_owned(),
            alias: alias.to_owned(),
            version,
            previous_version: from,
        })),
        SetAliasOutcome::NoModel => Err(ApiError::not_found()),
        SetAliasOutcome::NoVersion => Err(ApiError::invalid_field(
            "/version",
            "unknown",
            "the model has no such version",
        )),
        SetAliasOutcome::Retired => Err(ApiError::invalid_field(
            "/version",
            "retired",
            "this version is retired",
        )),
        SetAliasOutcome::NotReady(state) => Err(not_ready(state)),
    }
}

/// Deletes an alias of a model. Existing jobs keep their version.
///
/// The alias `default` of the default model can only be moved: jobs that name no model use it.
#[utoipa::path(
    operation_id = "delete_alias", tag = "models",
    params(("name" = String, Path, description = "Name of the model"),
           ("alias" = String, Path, pattern = "^[a-z][a-z0-9._-]{0,49}$", description = "The alias")),
    responses(
        (status = 204, description = "Deleted"),
        NotFound,
        (status = 422, description = "invalid_params: jobs that name no model use it", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/v1/models/{name}/aliases/{alias}")]
async fn delete_alias(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let path = request.match_info();
    let (model, alias) = (path.query("name"), path.query("alias"));
    if model.contains('\0') || !is_alias(alias) {
        return Err(ApiError::not_found());
    }
    match models::delete_alias(&ctx.db, model, alias, &caller.audit_name()).await? {
        DeleteAliasOutcome::Deleted => Ok(HttpResponse::NoContent().finish()),
        DeleteAliasOutcome::NotFound => Err(ApiError::not_found()),
        DeleteAliasOutcome::Needed => {
            let detail = "jobs that name no model use this alias: point it at another version";
            Err(ApiError::invalid_field("/alias", "needed", detail))
        }
    }
}

/// Retires a version: new jobs cannot use it, existing jobs still run. May be repeated.
#[utoipa::path(
    operation_id = "retire_version", tag = "models",
    params(("name" = String, Path, description = "Name of the model"),
           ("version" = i32, Path, description = "Its number")),
    responses(
        (status = 204, description = "Retired"),
        NotFound,
        (status = 422, description = "invalid_params: an alias means it, and has to be moved first", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/models/{name}/versions/{version}/retire")]
async fn retire_version(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let (model, version) = version_in_path(&request)?;
    match models::retire(&ctx.db, model, version, &caller.audit_name()).await? {
        RetireOutcome::Done => Ok(HttpResponse::NoContent().finish()),
        RetireOutcome::NotFound => Err(ApiError::not_found()),
        RetireOutcome::Aliased { aliases } => {
            let detail = aliased(&aliases);
            Err(ApiError::invalid_field("/version", "aliased", &detail))
        }
    }
}

fn aliased(aliases: &[String]) -> String {
    let quoted: Vec<_> = aliases.iter().map(|alias| format!("`{alias}`")).collect();
    match quoted.as_slice() {
        [] => "an alias means this version: move or delete it first".into(),
        [alias] => format!("the alias {alias} means this version: move or delete it first"),
        _ => format!(
            "the aliases {} mean this version: move or delete them first",
            quoted.join(", ")
        ),
    }
}

/// Takes back a retirement: new jobs may use the version again. May be repeated.
#[utoipa::path(
    operation_id = "unretire_version", tag = "models",
    params(("name" = String, Path, description = "Name of the model"),
           ("version" = i32, Path, description = "Its number")),
    responses(
        (status = 204, description = "Not retired any more"),
        NotFound,
    ),
)]
#[post("/v1/models/{name}/versions/{version}/unretire")]
async fn unretire_version(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let (model, version) = version_in_path(&request)?;
    if models::unretire(&ctx.db, model, version, &caller.audit_name()).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::not_found())
    }
}

/// Asks the workers that run a model to load a version, before an alias moves to it. May be repeated.
///
/// The answer does not wait for the loads: `loaded` counts the workers that have the version now.
#[utoipa::path(
    operation_id = "prefetch_version", tag = "models",
    params(("name" = String, Path, description = "Name of the model"),
           ("version" = i32, Path, description = "Its number")),
    responses(
        (status = 202, description = "Requested", body = Prefetch),
        NotFound,
        (status = 422, description = "invalid_params: the version is retired, validating or rejected", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/models/{name}/versions/{version}/prefetch")]
async fn prefetch_version(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    let (model, version) = version_in_path(&request)?;
    match models::prefetch(&ctx.db, model, version, &caller.audit_name()).await? {
        PrefetchOutcome::Asked => {
            let count = models::count_loaded(&ctx.db, model, version).await?;
            Ok(HttpResponse::Accepted().json(Prefetch {
                object: Object::Prefetch,
                model: model.to_owned(),
                version,
                workers: count.workers,
                loaded: count.loaded,
            }))
        }
        PrefetchOutcome::NotFound => Err(ApiError::not_found()),
        PrefetchOutcome::Retired => {
            let detail = "this version is retired";
            Err(ApiError::invalid_field("/version", "retired", detail))
        }
        PrefetchOutcome::NotReady(state) => Err(not_ready(state)),
    }
}

fn not_ready(state: VersionState) -> ApiError {
    let detail = match state {
        VersionState::Validating => "no worker has loaded this version yet: it is validating",
        VersionState::Rejected => {
            "this version was rejected: no worker could load it; GET /v1/models/{name}/versions has the cause"
        }
        VersionState::Ready => "the version has become ready at this moment: try again",
    };
    ApiError::invalid_field("/version", state.as_str(), detail)
}

/// The model and the number of the version in the path.
///
/// # Errors
/// `not_found`: there can be no such version.
fn version_in_path(request: &HttpRequest) -> Result<(&str, i32), ApiError> {
    let path = request.match_info();
    let (model, version) = (path.query("name"), path.query("version").parse());
    match version {
        Ok(version) if !model.contains('\0') => Ok((model, version)),
        _ => Err(ApiError::not_found()),
    }
}
