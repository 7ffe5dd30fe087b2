//! The routes: one module for each resource. Its `configure` adds the handlers and, with them, their part of the OpenAPI document.

mod api_keys;
pub(crate) mod batches;
pub(crate) mod events;
mod health;
mod images;
pub(crate) mod jobs;
mod models;
mod pages;
mod queues;
mod stats;
mod unknown;
mod uploads;
mod usage;
pub(crate) mod webhooks;
mod workers;

use actix_web::App;
use utoipa::OpenApi;
use utoipa_actix_web::{AppExt, service_config::ServiceConfig};

pub(crate) use self::unknown::unknown;
use crate::openapi::Frame;

/// Adds every resource.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        .configure(jobs::configure)
        .configure(batches::configure)
        .configure(uploads::configure)
        .configure(images::configure)
        .configure(events::configure)
        .configure(webhooks::configure)
        .configure(models::configure)
        .configure(queues::configure)
        .configure(workers::configure)
        .configure(stats::configure)
        .configure(usage::configure)
        .configure(api_keys::configure)
        .configure(health::configure)
        .configure(pages::configure);
}

/// The OpenAPI document of all resources.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    let app = App::new().into_utoipa_app().openapi(Frame::openapi());
    app.configure(configure).split_for_parts().1
}
