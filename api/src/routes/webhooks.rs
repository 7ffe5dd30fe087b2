//! `/v1/webhook_…`: endpoints, signing secrets, deliveries.

pub(crate) mod deliveries;
mod endpoints;
mod secret;

use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(endpoints::create_webhook_endpoint)
        .service(endpoints::list_webhook_endpoints)
        .service(endpoints::delete_webhook_endpoint)
        .service(secret::get_webhook_secret)
        .service(secret::rotate_webhook_secret)
        .service(deliveries::list_webhook_deliveries)
        .service(deliveries::redeliver_webhook);
}
