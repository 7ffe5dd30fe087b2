use actix_web::{
    HttpResponse,
    web::{Data, Payload},
};
use chrono::{DateTime, Utc};
use jobs::keys::{self, KeyLimits, KeyView, NewKey, Scope, is_owner};
use serde::Deserialize;
use utoipa::ToSchema;

use super::actor;
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    job_request::{invalid, is_out_of_reach},
    key_body::KeyBody,
    openapi::{InvalidParams, InvalidRequest, SlowBody},
    small_body,
};

const NAME_CHARS_MAX: usize = 200;

/// What a new API key is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// What it is for, for people: up to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Whose jobs it sees: lowercase letters, digits, `_` and `-`, up to 63. Several keys may share one owner.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,62}$", example = "shop")]
    owner: String,
    /// What it may do.
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// Until when it is valid; until it is revoked if left out.
    expires_at: Option<DateTime<Utc>>,
    #[serde(default)]
    limits: KeyLimits,
}

impl KeyRequest {
    fn check(&self) -> Result<(), ApiError> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.contains('\0') {
            Err(invalid("/name", "invalid", "must be 1 to 200 characters"))
        } else if !is_owner(&self.owner) {
            let rule = "must be lowercase letters, digits, `_` or `-`, up to 63, no sign first";
            Err(invalid("/owner", "invalid", rule))
        } else if self.scopes.is_empty() {
            Err(invalid("/scopes", "invalid", "must name one at least"))
        } else if self.expires_at.is_some_and(|at| at <= Utc::now()) {
            Err(invalid("/expires_at", "invalid", "has passed"))
        } else if self.expires_at.is_some_and(is_out_of_reach) {
            let years = "must lie in the years 1970 to 9999";
            Err(invalid("/expires_at", "invalid", years))
        } else if let Some((field, bounds)) = self.limits.fault() {
            Err(invalid(&format!("/limits/{field}"), "invalid", bounds))
        } else {
            Ok(())
        }
    }
}

/// Makes an API key. The answer is the only time that it can be seen.
///
/// To change keys without a pause make the new one first: several keys of one owner are valid at once.
#[utoipa::path(
    post, path = "/v1/api_keys", operation_id = "create_key", tag = "keys",
    request_body = KeyRequest,
    responses(
        (status = 201, description = "Made; keep `key`, it is not shown again", body = KeyBody),
        InvalidRequest,
        SlowBody,
        InvalidParams,
    ),
)]
pub(crate) async fn create_key(
    ctx: Data<Ctx>,
    caller: Caller,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let mut asked: KeyRequest = small_body::json(&ctx, body).await?;
    asked.check()?;
    asked.scopes.sort_unstable();
    asked.scopes.dedup();
    let new = NewKey {
        name: asked.name.trim().to_owned(),
        owner: asked.owner,
        scopes: asked.scopes,
        expires_at: asked.expires_at,
        limits: asked.limits,
    };
    let made = keys::create(&ctx.db, &new, Some(&actor(&caller))).await?;
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
