//! `/v1/stats`: how the service stands now.

use actix_web::{HttpResponse, get, web::Data};
use jobs::{
    keys::Scope,
    queue::{self, ModelStats},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{ctx::Ctx, http::error::ApiError, limits::keyring::Caller};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(get_stats);
}

/// The current load of the service and of each model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatsBody {
    #[schema(example = "stats")]
    object: &'static str,
    /// Jobs of all models that wait for a worker.
    queued: i64,
    running: i64,
    scheduled: i64,
    oldest_age_seconds: Option<f64>,
    arrived_per_second: f64,
    finished_per_second: f64,
    models: Vec<ModelStats>,
}

/// Backlog, age of the oldest job, rates and desired workers: in total and by model, over the jobs of all owners.
#[utoipa::path(
    operation_id = "get_stats", tag = "operating",
    responses(
        (status = 200, description = "The current numbers", body = StatsBody),
    ),
)]
#[get("/v1/stats")]
async fn get_stats(ctx: Data<Ctx>, caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    let models = queue::stats(&ctx.db).await?;
    let sum = |count: fn(&ModelStats) -> i64| models.iter().map(count).sum();
    let rate = |rate: fn(&ModelStats) -> f64| models.iter().map(rate).sum();
    Ok(HttpResponse::Ok().json(StatsBody {
        object: "stats",
        queued: sum(|model| model.queued),
        running: sum(|model| model.running),
        scheduled: sum(|model| model.scheduled),
        oldest_age_seconds: models
            .iter()
            .filter_map(|model| model.oldest_age_seconds)
            .reduce(f64::max),
        arrived_per_second: rate(|model| model.arrived_per_second),
        finished_per_second: rate(|model| model.finished_per_second),
        models,
    }))
}
