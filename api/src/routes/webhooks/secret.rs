use actix_web::{HttpResponse, get, http::header, post, web::Data};
use jobs::{
    keys::Scope,
    webhooks::{OwnerSecret, owner_secret, rotate_secret},
};
use wire::{ShownSecret, WebhookSecret};

use crate::{ctx::Ctx, http::error::ApiError, limits::keyring::Caller};

fn response(secret: &OwnerSecret) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(WebhookSecret {
            secret: ShownSecret::new(secret.secret.expose()),
            previous_until: secret.previous.as_ref().map(|(_, until)| *until),
        })
}

/// The secret that signs the webhooks of your single jobs.
#[utoipa::path(
    operation_id = "get_webhook_secret", tag = "events",
    responses(
        (status = 200, description = "The secret; created now if there was none", body = WebhookSecret),
    ),
)]
#[get("/v1/webhook_secret")]
pub(super) async fn get_webhook_secret(
    ctx: Data<Ctx>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let secret = owner_secret(&ctx.db, &caller.owner).await?;
    ctx.keyring.access_log.record_secret_read(&caller).await?;
    Ok(response(&secret))
}

/// Creates a new secret. For a day, webhooks carry the signatures of both secrets, so that receivers can switch.
#[utoipa::path(
    operation_id = "rotate_webhook_secret", tag = "events",
    responses(
        (status = 200, description = "The new secret", body = WebhookSecret),
    ),
)]
#[post("/v1/webhook_secret/rotate")]
pub(super) async fn rotate_webhook_secret(
    ctx: Data<Ctx>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let actor = caller.audit_name();
    let rotated = rotate_secret(&ctx.db, &caller.owner, Some(&actor)).await?;
    Ok(response(&rotated))
}
