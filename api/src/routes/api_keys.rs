//! `/v1/api_keys`: who may do what.

use actix_web::{
    HttpRequest, HttpResponse, delete, get, post,
    web::{Data, Payload},
};
use chrono::Utc;
use jobs::{
    Secret,
    keys::{self, KeyLimits, KeyView, NewKey, Scope, is_owner},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use wire::{ApiKey, ApiKeyRequest, Object, ShownSecret};

use crate::{
    ctx::Ctx,
    http::{
        error::ApiError,
        json::read_json,
        paging::{cut_page, next_link, parse_limit, read_query},
    },
    limits::keyring::Caller,
    openapi::{InvalidParams, InvalidRequest, NotFound, SlowBody},
    submit::job_request::is_out_of_range,
};

const NAME_CHARS_MAX: usize = 200;
const LIMIT_DEFAULT: u16 = 100;
const LIMIT_MAX: u16 = 500;

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(create_key)
        .service(list_keys)
        .service(revoke_key);
}

/// The JSON of a key. `key` is the whole key, for the response that creates it.
fn key_body(view: KeyView, key: Option<&Secret>) -> ApiKey {
    ApiKey {
        object: Object::ApiKey,
        key: key.map(|key| ShownSecret::new(key.expose())),
        prefix: format!("dk_{}_", view.key_id),
        id: view.key_id,
        name: view.name,
        owner: view.owner,
        scopes: view.scopes,
        created_at: view.created_at,
        expires_at: view.expires_at,
        revoked_at: view.revoked_at,
        last_used_at: view.last_used_at,
        limits: wire::KeyLimits {
            requests_per_second: view.limits.requests_per_second,
            burst: view.limits.burst,
            queued_jobs_max: view.limits.queued_jobs_max,
            stored_bytes_max: view.limits.stored_bytes_max,
            priority_max: view.limits.priority_max,
        },
    }
}

/// The key to create.
///
/// # Errors
/// `invalid_params`: a field is out of bounds.
fn new_key(request: ApiKeyRequest) -> Result<NewKey, ApiError> {
    let limits = KeyLimits {
        requests_per_second: request.limits.requests_per_second,
        burst: request.limits.burst,
        queued_jobs_max: request.limits.queued_jobs_max,
        stored_bytes_max: request.limits.stored_bytes_max,
        priority_max: request.limits.priority_max,
    };
    let name = request.name.trim();
    let fault = if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.contains('\0') {
        Some(("/name".to_owned(), "must be 1 to 200 characters"))
    } else if !is_owner(&request.owner) {
        let rule = "must be lowercase letters, digits, `_` or `-`, up to 63, no sign first";
        Some(("/owner".to_owned(), rule))
    } else if request.scopes.is_empty() {
        Some(("/scopes".to_owned(), "must name one at least"))
    } else if request.expires_at.is_some_and(|at| at <= Utc::now()) {
        Some(("/expires_at".to_owned(), "has passed"))
    } else if request.expires_at.is_some_and(is_out_of_range) {
        Some((
            "/expires_at".to_owned(),
            "must lie in the years 1970 to 9999",
        ))
    } else {
        let fault = limits.fault();
        fault.map(|(field, bounds)| (format!("/limits/{field}"), bounds))
    };
    if let Some((pointer, detail)) = fault {
        return Err(ApiError::invalid_field(&pointer, "invalid", detail));
    }
    let mut scopes = request.scopes;
    scopes.sort_unstable();
    scopes.dedup();
    Ok(NewKey {
        name: name.to_owned(),
        owner: request.owner,
        scopes,
        expires_at: request.expires_at,
        limits,
    })
}

/// Creates an API key. Only this response shows it.
///
/// To replace a key without an interruption, create the new key first. An owner may have several valid keys.
#[utoipa::path(
    operation_id = "create_key", tag = "keys",
    request_body = ApiKeyRequest,
    responses(
        (status = 201, description = "Created; keep `key`, it is not shown again", body = ApiKey),
        InvalidRequest,
        SlowBody,
        InvalidParams,
    ),
)]
#[post("/v1/api_keys")]
async fn create_key(
    ctx: Data<Ctx>,
    caller: Caller,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let new = new_key(read_json(body, &ctx.config.limits).await?)?;
    let made = keys::create(&ctx.db, &new, Some(&caller.audit_name())).await?;
    let view = KeyView {
        key_id: made.key_id,
        name: new.name,
        owner: new.owner,
        scopes: new
            .scopes
            .iter()
            .map(|scope| scope.as_str().into())
            .collect(),
        created_at: made.created_at,
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
        limits: new.limits,
    };
    Ok(HttpResponse::Created().json(key_body(view, Some(&made.key))))
}

/// One page of API keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<ApiKey>,
    /// The `cursor` of the next page; empty on the last page.
    next_cursor: Option<String>,
}

/// The API keys of all owners, newest first, without their secrets.
#[utoipa::path(
    operation_id = "list_keys", tag = "keys",
    params(
        ("owner" = Option<String>, Query, description = "Only keys of this owner"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "1 to 500 keys a page; 100 by default"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = KeyList, headers(("Link" = String, description = "`rel=\"next\"`"))),
        InvalidParams,
    ),
)]
#[get("/v1/api_keys")]
async fn list_keys(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let (mut owner, mut before, mut limit) = (None, None, LIMIT_DEFAULT);
    read_query(request.query_string(), |name, value| {
        match name {
            "owner" if keys::is_owner(value) => owner = Some(value.to_owned()),
            "owner" => return Err("is not the name of an owner"),
            "cursor" => {
                let id = value.strip_prefix("key_").filter(|id| keys::is_owner(id));
                before = Some(id.ok_or("is not a cursor of ours")?.to_owned());
            }
            "limit" => limit = parse_limit(value, LIMIT_MAX).ok_or("must lie in 1..=500")?,
            _ => return Err("there is no such parameter"),
        }
        Ok(())
    })?;
    let mut keys = keys::list(&ctx.db, owner.as_deref(), before.as_deref(), limit + 1).await?;
    let next_cursor = cut_page(&mut keys, limit, |key| format!("key_{}", key.key_id));
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = &next_cursor {
        response.insert_header(next_link(&request, cursor));
    }
    Ok(response.json(KeyList {
        object: "list",
        data: keys.into_iter().map(|key| key_body(key, None)).collect(),
        next_cursor,
    }))
}

/// Revokes an API key. A revoked key stays revoked; the request may be repeated.
///
/// This API process refuses the key at once. Other processes may accept it for up to 10 seconds.
#[utoipa::path(
    operation_id = "revoke_key", tag = "keys",
    params(("id" = String, Path, description = "`id` of the key, not the key itself")),
    responses(
        (status = 204, description = "Revoked"),
        NotFound,
    ),
)]
#[delete("/v1/api_keys/{id}")]
async fn revoke_key(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let id = request.match_info().query("id");
    // Postgres is not asked for what cannot be an id.
    if !keys::is_owner(id) || !keys::revoke(&ctx.db, id, &caller.audit_name()).await? {
        return Err(ApiError::not_found());
    }
    ctx.keyring.forget(id);
    Ok(HttpResponse::NoContent().finish())
}
