use std::time::Duration;

use actix_web::{HttpResponse, web::Data};
use tokio::time::timeout;

use crate::{ctx::Ctx, error::ApiError};

/// How long Postgres and the object store may take to say that they are there.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

/// Ready: a submit could be stored and committed now.
pub(super) async fn readyz(ctx: Data<Ctx>) -> Result<HttpResponse, ApiError> {
    let reach = async {
        sqlx::raw_sql("select 1").execute(&ctx.db).await?;
        ctx.store.ping().await?;
        Ok::<_, ApiError>(())
    };
    timeout(PATIENCE, reach)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ready\n"))
}
