mod readable;

use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
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
        (name = "models", description = "What jobs may ask for"),
        (name = "operating", description = "Look after queues and workers"),
    ),
    paths(
        routes::create_job, routes::list_jobs, routes::get_job, routes::get_result, routes::cancel_job,
        routes::retry_job, routes::delete_job, routes::explain_job,
        routes::list_models, routes::get_model, routes::list_versions,
        routes::pause_queue, routes::resume_queue, routes::list_workers, routes::drain_worker,
    ),
    modifiers(&Bearer),
)]
struct ApiDoc;

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
