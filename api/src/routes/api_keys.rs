//! `/v1/api_keys`: who may do what.

use actix_web::{
    HttpRequest, HttpResponse, delete, get, post,
    web::{Data, Payload},
};
use chrono::{DateTime, Utc};
use jobs::{
    Secret,
    keys::{self, KeyLimits, KeyView, NewKey, Scope, is_owner},
    rfc3339::{micros, some_micros},
};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

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

/// An API key; its secret is shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyBody {
    #[schema(example = "1f3a9c0b7d2e")]
    id: String,
    #[schema(example = "api_key")]
    object: &'static str,
    /// The whole key; only in the response that creates it.
    #[serde(serialize_with = "exposed", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key: Option<Secret>,
    /// The beginning of the key, to recognize it.
    #[schema(example = "dk_1f3a9c0b7d2e_")]
    prefix: String,
    name: String,
    owner: String,
    /// `submit`, `read`, `operate`, `admin`.
    scopes: Vec<String>,
    #[serde(serialize_with = "micros")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "some_micros")]
    expires_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    revoked_at: Option<DateTime<Utc>>,
    /// Its own limits; the default of the service applies where a field is empty.
    limits: KeyLimits,
}

#[allow(clippy::ref_option)] // the signature that serde asks for
fn exposed<S: Serializer>(key: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        Some(key) => serializer.serialize_some(key.expose()),
        None => serializer.serialize_none(),
    }
}

impl KeyBody {
    pub fn new(view: KeyView, key: Option<Secret>) -> Self {
        Self {
            object: "api_key",
            key,
            prefix: format!("dk_{}_", view.key_id),
            id: view.key_id,
            name: view.name,
            owner: view.owner,
            scopes: view.scopes,
            created_at: view.created_at,
            expires_at: view.expires_at,
            revoked_at: view.revoked_at,
            limits: view.limits,
        }
    }
}

/// A new API key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// Its purpose, for people: up to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// The owner whose jobs and images it can use: lowercase letters, digits, `_` and `-`, up to 63. Several keys may have one owner.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,62}$", example = "shop")]
    owner: String,
    /// What the key may do.
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// The end of its validity; without it, the key is valid until it is revoked.
    expires_at: Option<DateTime<Utc>>,
    #[serde(default)]
    limits: KeyLimits,
}

impl KeyRequest {
    fn check(&self) -> Result<(), ApiError> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.contains('\0') {
            Err(ApiError::invalid_field(
                "/name",
                "invalid",
                "must be 1 to 200 characters",
            ))
        } else if !is_owner(&self.owner) {
            let rule = "must be lowercase letters, digits, `_` or `-`, up to 63, no sign first";
            Err(ApiError::invalid_field("/owner", "invalid", rule))
        } else if self.scopes.is_empty() {
            Err(ApiError::invalid_field(
                "/scopes",
                "invalid",
                "must name one at least",
            ))
        } else if self.expires_at.is_some_and(|at| at <= Utc::now()) {
            Err(ApiError::invalid_field(
                "/expires_at",
                "invalid",
                "has passed",
            ))
        } else if self.expires_at.is_some_and(is_out_of_range) {
            let years = "must lie in the years 1970 to 9999";
            Err(ApiError::invalid_field("/expires_at", "invalid", years))
        } else if let Some((field, bounds)) = self.limits.fault() {
            Err(ApiError::invalid_field(
                &format!("/limits/{field}"),
                "invalid",
                bounds,
            ))
        } else {
            Ok(())
        }
    }
}

/// Creates an API key. Only this response shows it.
///
/// To replace a key without an interruption, create the new key first. An owner may have several valid keys.
#[utoipa::path(
    operation_id = "create_key", tag = "keys",
    request_body = KeyRequest,
    responses(
        (status = 201, description = "Created; keep `key`, it is not shown again", body = KeyBody),
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
    let mut key: KeyRequest = read_json(body, &ctx.config.limits).await?;
    key.check()?;
    key.scopes.sort_unstable();
    key.scopes.dedup();
    let new = NewKey {
        name: key.name.trim().to_owned(),
        owner: key.owner,
        scopes: key.scopes,
        expires_at: key.expires_at,
        limits: key.limits,
    };
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
        limits: new.limits,
    };
    Ok(HttpResponse::Created().json(KeyBody::new(view, Some(made.key))))
}

/// One page of API keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<KeyBody>,
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
        data: keys
            .into_iter()
            .map(|key| KeyBody::new(key, None))
            .collect(),
        next_cursor,
    }))
}

/// Revokes an API key for good. May be repeated.
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
