mod batch_line;
mod readable;
mod refusals;

use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, Ref, RefOr, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

pub(crate) use self::{
    batch_line::BatchLine,
    refusals::{InvalidParams, InvalidRequest, NotFound, SlowBody},
};
use crate::routes;

/// The document behind `/openapi.json` and `/docs`, made from the handlers themselves.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Darkroom",
        description = "A job API for image inference: drop an image off, get a ticket at once, come back for the result.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    tags(
        (name = "jobs", description = "Submit images, follow jobs, read results"),
        (name = "batches", description = "Many images at once"),
        (name = "images", description = "Images apart from jobs"),
        (name = "events", description = "Hear what happened: webhooks, a feed to read, a stream to follow"),
        (name = "models", description = "What jobs may ask for"),
        (name = "operating", description = "Look after queues and workers; what goes on, and what was used"),
        (name = "keys", description = "Who may do what"),
    ),
    paths(
        routes::create_job, routes::list_jobs, routes::get_job, routes::get_result, routes::cancel_job,
        routes::retry_job, routes::delete_job, routes::explain_job, routes::job_events, routes::list_events,
        routes::create_batch, routes::list_batches, routes::get_batch, routes::get_batch_results,
        routes::cancel_batch, routes::retry_failed,
        routes::create_upload, routes::create_image, routes::get_image, routes::get_image_content, routes::delete_image,
        routes::create_webhook_endpoint, routes::list_webhook_endpoints, routes::delete_webhook_endpoint,
        routes::get_webhook_secret, routes::rotate_webhook_secret, routes::list_webhook_deliveries, routes::redeliver_webhook,
        routes::list_models, routes::get_model, routes::list_versions, routes::set_alias, routes::retire_version,
        routes::get_stats, routes::get_usage, routes::pause_queue, routes::resume_queue, routes::list_workers, routes::drain_worker,
        routes::create_key, routes::list_keys, routes::revoke_key,
    ),
    components(schemas(jobs::Problem)),
    modifiers(&Bearer, &Everywhere),
)]
pub(crate) struct ApiDoc;

/// The document as clients, and generators of clients, read it.
pub(crate) fn document() -> serde_json::Value {
    let mut document =
        serde_json::to_value(ApiDoc::openapi()).expect("the document is ours, and JSON");
    readable::make_readable(&mut document);
    document
}

/// Every path needs a key.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("dk_…")
            .description(Some("An API key: `Authorization: Bearer dk_…`"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme));
        document.security = Some(vec![SecurityRequirement::new(
            "api_key",
            Vec::<String>::new(),
        )]);
    }
}

/// What any path may answer, unless it says more about it itself.
struct Everywhere;

const EVERYWHERE: [(&str, &str); 5] = [
    ("401", "unauthorized"),
    ("403", "forbidden"),
    ("429", "rate_limited: see `RateLimit` and `Retry-After`"),
    ("500", "internal"),
    ("503", "service_unavailable"),
];

impl Modify for Everywhere {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            let methods = [
                &mut item.get,
                &mut item.put,
                &mut item.post,
                &mut item.delete,
            ];
            for operation in methods.into_iter().flatten() {
                for (status, description) in EVERYWHERE {
                    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
                    let response = ResponseBuilder::new()
                        .description(description)
                        .content("application/problem+json", problem)
                        .build();
                    let responses = &mut operation.responses.responses;
                    responses.entry(status.into()).or_insert(RefOr::T(response));
                }
            }
        }
    }
}
