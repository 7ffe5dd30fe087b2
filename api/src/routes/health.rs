//! `/livez` and `/readyz`. They need no key and are not part of the OpenAPI document.

use std::time::Duration;

use actix_web::{HttpResponse, get, web::Data};
use jobs::{ProblemCode, bucket::BucketState, db::NotReady, telemetry};
use tokio::time::timeout;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{ctx::Ctx, http::error::ApiError};

/// How long Postgres and the object store may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn configure(config: &mut ServiceConfig) {
    config.map(|config| config.service(livez).service(readyz));
}

#[get("/livez")]
async fn livez() -> HttpResponse {
    text("ok\n")
}

/// Ready: a submit could be stored and committed now. A standby or a server that refuses the login is not ready.
#[get("/readyz")]
async fn readyz(ctx: Data<Ctx>) -> Result<HttpResponse, ApiError> {
    if ctx.background.failure().is_some() {
        let detail = "a background task failed: this process is about to end";
        return Err(ApiError::new(ProblemCode::ServiceUnavailable, detail).retry_after(1));
    }
    ctx.readiness.check(Box::pin(ping(&ctx))).await?;
    Ok(text("ready\n"))
}

/// Asks Postgres and the object store for an answer.
async fn ping(ctx: &Ctx) -> Result<(), ApiError> {
    let ping = async {
        ctx.db
            .check_ready()
            .await
            .map_err(|error| no_postgres(&error))?;
        match ctx.bucket.look().await? {
            BucketState::Usable => Ok(()),
            BucketState::Away(why) | BucketState::Refused(why) => Err(not_ready(why)),
        }
    };
    timeout(PING_TIMEOUT, ping)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
}

/// Says what an operator has to change.
fn no_postgres(error: &NotReady) -> ApiError {
    tracing::warn!(error.cause = telemetry::chain(error), "not ready");
    ApiError::new(ProblemCode::ServiceUnavailable, error.to_string()).retry_after(1)
}

/// Says what an operator has to check.
fn not_ready(why: String) -> ApiError {
    tracing::warn!(error.cause = why, "not ready");
    ApiError::new(ProblemCode::ServiceUnavailable, why).retry_after(1)
}

fn text(body: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(body)
}
