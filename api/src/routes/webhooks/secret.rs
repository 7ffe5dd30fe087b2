use actix_web::{HttpResponse, get, http::header, post, web::Data};
use chrono::Utc;
use jobs::{
    ProblemCode,
    keys::Scope,
    webhooks::{OwnerSecret, PREVIOUS_SECRETS_MAX, Rotation, owner_secret, rotate_secret},
};
use wire::{ShownSecret, WebhookSecret};

use crate::{ctx::Ctx, http::error::ApiError, limits::keyring::Caller};

fn response(secret: &OwnerSecret) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(WebhookSecret {
            secret: ShownSecret::new(secret.secret.expose()),
            previous_until: secret.previous.first().map(|(_, until)| *until),
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
    caller.needs(Scope::Webhooks)?;
    let secret = owner_secret(&ctx.db, &caller.owner).await?;
    ctx.keyring.access_log.record_secret_read(&caller).await?;
    Ok(response(&secret))
}

/// Creates a new secret. For a day, webhooks also carry the signature of the secret before it, so that receivers can switch.
///
/// A further rotation within this day does not end the overlap: up to ten earlier secrets sign at the same time.
#[utoipa::path(
    operation_id = "rotate_webhook_secret", tag = "events",
    responses(
        (status = 200, description = "The new secret", body = WebhookSecret),
        (status = 429, description = "quota_exceeded: ten earlier secrets still sign; see `Retry-After`", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/webhook_secret/rotate")]
pub(super) async fn rotate_webhook_secret(
    ctx: Data<Ctx>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Webhooks)?;
    let actor = caller.audit_name();
    match rotate_secret(&ctx.db, &caller.owner, Some(&actor)).await? {
        Rotation::Rotated(secret) => Ok(response(&secret)),
        Rotation::Refused(until) => {
            let detail = format!(
                "{PREVIOUS_SECRETS_MAX} earlier secrets still sign, the first of them until {until}"
            );
            let seconds = (until - Utc::now()).num_seconds().clamp(1, 86_400);
            Err(ApiError::new(ProblemCode::QuotaExceeded, detail).retry_after(seconds as u32))
        }
    }
}
