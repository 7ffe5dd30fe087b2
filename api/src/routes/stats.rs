//! `/v1/stats`: how the service stands now.

use actix_web::{HttpResponse, get, web::Data};
use jobs::{
    keys::Scope,
    queue::{self, ModelStats},
};
use utoipa_actix_web::service_config::ServiceConfig;
use wire::{Object, Stats};

use crate::{ctx::Ctx, http::error::ApiError, limits::keyring::Caller};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(get_stats);
}

fn model_stats_body(model: ModelStats) -> wire::ModelStats {
    wire::ModelStats {
        model: model.model,
        queued: model.queued,
        running: model.running,
        scheduled: model.scheduled,
        oldest_age_seconds: model.oldest_age_seconds,
        arrived_per_second: model.arrived_per_second,
        finished_per_second: model.finished_per_second,
        finished_per_worker_second: model.finished_per_worker_second,
        work_seconds: model.work_seconds,
        live_workers: model.live_workers,
        desired_workers: model.desired_workers,
        paused: model.paused,
        pause_reason: model.pause_reason,
    }
}

/// Backlog, age of the oldest job, rates and desired workers: in total and by model, over the jobs of all owners.
#[utoipa::path(
    operation_id = "get_stats", tag = "operating",
    responses(
        (status = 200, description = "The current numbers", body = Stats),
    ),
)]
#[get("/v1/stats")]
async fn get_stats(ctx: Data<Ctx>, caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Operate)?;
    let read = ctx
        .reads
        .run(&caller.owner, async |db| queue::stats(&mut *db).await);
    let models = read.await?;
    let sum = |count: fn(&ModelStats) -> i64| models.iter().map(count).sum();
    let rate = |rate: fn(&ModelStats) -> f64| models.iter().map(rate).sum();
    Ok(HttpResponse::Ok().json(Stats {
        object: Object::Stats,
        queued: sum(|model| model.queued),
        running: sum(|model| model.running),
        scheduled: sum(|model| model.scheduled),
        oldest_age_seconds: models
            .iter()
            .filter_map(|model| model.oldest_age_seconds)
            .reduce(f64::max),
        arrived_per_second: rate(|model| model.arrived_per_second),
        finished_per_second: rate(|model| model.finished_per_second),
        models: models.into_iter().map(model_stats_body).collect(),
    }))
}
