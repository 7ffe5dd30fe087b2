//! The OpenAPI document: its frame, what all routes share, and its final form.

mod readable;
mod refusals;

use std::collections::HashMap;

use utoipa::{
    OpenApi,
    openapi::{
        Content, PathItem, Ref, RefOr, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

pub(crate) use self::refusals::{InvalidParams, InvalidRequest, NotFound, SlowBody};
use crate::pages;

/// The frame of the document: everything but the routes.
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
        (name = "images", description = "Images without jobs"),
        (name = "events", description = "What happened: webhooks, a feed, a stream for each job"),
        (name = "models", description = "The models that jobs can use"),
        (name = "operating", description = "Queues and workers, the current load, the usage"),
        (name = "keys", description = "API keys: who may do what"),
    ),
    components(schemas(wire::Problem)),
)]
pub(crate) struct Frame;

/// The OpenAPI document as the server uses it. Made once, at start.
#[derive(Debug)]
pub(crate) struct ApiDocument {
    /// The document, as `/openapi.json` serves it.
    pub json: String,
    /// The page `/docs`.
    pub reference: String,
    /// Methods of each path, as the header `Allow` lists them.
    allowed_methods: HashMap<String, String>,
}

impl ApiDocument {
    /// Adds to `document`, which has the frame and the routes, what all routes share.
    pub fn new(mut document: utoipa::openapi::OpenApi) -> Self {
        add_security(&mut document);
        add_common_refusals(&mut document);
        let paths = document.paths.paths.iter();
        let allowed_methods = paths
            .map(|(path, item)| (path.clone(), allowed_methods(item)))
            .collect();
        let mut json = serde_json::to_value(document).expect("an OpenAPI document is JSON");
        readable::make_readable(&mut json);
        Self {
            reference: pages::reference(&json),
            json: json.to_string(),
            allowed_methods,
        }
    }

    /// The header `Allow` of a path. Paths that the document does not have are pages and health checks: for reading only.
    pub fn allowed_methods(&self, path: &str) -> &str {
        self.allowed_methods
            .get(path)
            .map_or("GET, HEAD", String::as_str)
    }
}

fn allowed_methods(item: &PathItem) -> String {
    let methods = [
        ("GET, HEAD", item.get.is_some()),
        ("POST", item.post.is_some()),
        ("PUT", item.put.is_some()),
        ("DELETE", item.delete.is_some()),
    ];
    let allowed = methods.iter().filter(|(_, is_allowed)| *is_allowed);
    let allowed: Vec<_> = allowed.map(|(method, _)| *method).collect();
    allowed.join(", ")
}

/// Every path needs a key.
fn add_security(document: &mut utoipa::openapi::OpenApi) {
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

/// Refusals that every route may answer with.
const COMMON_REFUSALS: [(&str, &str); 5] = [
    ("401", "unauthorized"),
    ("403", "forbidden"),
    ("429", "rate_limited: see `RateLimit` and `Retry-After`"),
    ("500", "internal, storage_refused"),
    ("503", "service_unavailable"),
];

/// Adds the common refusals to each route that does not describe them itself.
fn add_common_refusals(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        let methods = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
        ];
        for operation in methods.into_iter().flatten() {
            for (status, description) in COMMON_REFUSALS {
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
