//! `/livez` and `/readyz`. They need no key and are not part of the OpenAPI document.

use std::time::Duration;

use actix_web::{HttpResponse, get, web::Data};
use jobs::{ProblemCode, object_store::StoreError};
use tokio::time::timeout;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{ctx::Ctx, http::error::ApiError};

/// How long Postgres and the object store may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn configure(config: &mut ServiceConfig) {
    config.map(|config| config.service(livez).service(readyz));
}

#[get("/livez")]
async fn livez() -> HttpResponse {
    text("ok\n")
}

/// Ready: a submit could be stored and committed now.
#[get("/readyz")]
async fn readyz(ctx: Data<Ctx>) -> Result<HttpResponse, ApiError> {
    if ctx.background.failure().is_some() {
        let detail = "a background task failed: this process is about to end";
        return Err(ApiError::new(ProblemCode::ServiceUnavailable, detail).retry_after(1));
    }
    ctx.readiness.check(ping(&ctx)).await?;
    Ok(text("ready\n"))
}

/// Asks Postgres and the object store for an answer.
async fn ping(ctx: &Ctx) -> Result<(), ApiError> {
    let ping = async {
        sqlx::raw_sql("select 1").execute(&ctx.db).await?;
        ctx.store.ping().await.map_err(not_ready)
    };
    timeout(PING_TIMEOUT, ping)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
}

/// Says what an operator has to change, if that is known.
fn not_ready(error: StoreError) -> ApiError {
    let StoreError::Refused(advice) = &error else {
        return error.into();
    };
    let detail = advice.clone();
    tracing::warn!(error.cause = detail, "not ready");
    ApiError::new(ProblemCode::ServiceUnavailable, detail).retry_after(1)
}

fn text(body: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(body)
}
