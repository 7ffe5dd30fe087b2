use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header,
    post,
    web::{Data, Payload},
};
use jobs::{
    ProblemCode, Secret,
    keys::Scope,
    webhooks::{Endpoint, create_endpoint, delete_endpoint, endpoints, new_secret},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::{EventType, Extensible, Object, ShownSecret, WebhookEndpoint};

use crate::{
    ctx::Ctx,
    http::{error::ApiError, json::read_json},
    limits::keyring::Caller,
    openapi::{InvalidRequest, NotFound, SlowBody},
};

/// A receiver of your webhooks.
// Not `wire::WebhookEndpointRequest`: an event that the service does not know is refused here.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointRequest {
    /// `https://…`, at a public address.
    url: String,
    /// The events to send there; all by default.
    #[serde(default = "all_events")]
    events: Vec<EventType>,
}

fn all_events() -> Vec<EventType> {
    EventType::ALL.to_vec()
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<WebhookEndpoint>,
}

/// The JSON of an endpoint, with its secret in the response that creates it.
fn endpoint_body(endpoint: Endpoint, secret: Option<&Secret>) -> WebhookEndpoint {
    let events = endpoint.events.into_iter();
    WebhookEndpoint {
        id: endpoint.id.to_string(),
        object: Object::WebhookEndpoint,
        url: endpoint.url,
        events: events.map(Extensible::Known).collect(),
        created_at: endpoint.created_at,
        disabled_at: endpoint.disabled_at,
        secret: secret.map(|secret| ShownSecret::new(secret.expose())),
    }
}

/// Creates an endpoint: a URL that gets webhooks of your events from now on.
#[utoipa::path(
    operation_id = "create_webhook_endpoint", tag = "events",
    request_body = EndpointRequest,
    responses(
        (status = 201, description = "Created; only this response shows its secret", body = WebhookEndpoint),
        InvalidRequest,
        SlowBody,
        (status = 422, description = "invalid_params: a URL that is not allowed, an unknown event, or too many endpoints", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/webhook_endpoints")]
pub(super) async fn create_webhook_endpoint(
    ctx: Data<Ctx>,
    caller: Caller,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Webhooks)?;
    let mut endpoint: EndpointRequest = read_json(body, &ctx.config.limits).await?;
    let url = ctx.egress.check(&endpoint.url);
    let url = url
        .map_err(|refused| ApiError::invalid_field("/url", "not_allowed", &refused.to_string()))?;
    endpoint.events.sort_unstable_by_key(|event| event.as_str());
    endpoint.events.dedup();
    if endpoint.events.is_empty() {
        return Err(ApiError::invalid_field(
            "/events",
            "invalid",
            "name one event at least",
        ));
    }
    let endpoints_max = ctx.config.webhooks.webhook_endpoints_max;
    let (secret, actor) = (new_secret(), caller.audit_name());
    let made = create_endpoint(
        &ctx.db,
        &caller.owner,
        url.as_str(),
        &endpoint.events,
        &secret,
        endpoints_max.into(),
        (url.host_str(), Some(actor.as_str())),
    );
    let made = made.await?.ok_or_else(|| {
        let detail = format!("you have {endpoints_max} endpoints: delete one first");
        ApiError::new(ProblemCode::InvalidParams, detail)
    })?;
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(endpoint_body(made, Some(&secret))))
}

/// Your endpoints.
#[utoipa::path(
    operation_id = "list_webhook_endpoints", tag = "events",
    responses(
        (status = 200, description = "Every endpoint, without its secret", body = EndpointList),
    ),
)]
#[get("/v1/webhook_endpoints")]
pub(super) async fn list_webhook_endpoints(
    ctx: Data<Ctx>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Webhooks)?;
    let endpoints = endpoints(&ctx.db, &caller.owner).await?.into_iter();
    Ok(HttpResponse::Ok().json(EndpointList {
        object: "list",
        data: endpoints.map(|one| endpoint_body(one, None)).collect(),
    }))
}

/// Deletes an endpoint. Its pending webhooks are not sent.
#[utoipa::path(
    operation_id = "delete_webhook_endpoint", tag = "events",
    params(("id" = String, Path, description = "`endpoint_` and 32 hex digits")),
    responses(
        (status = 204, description = "Deleted"),
        NotFound,
    ),
)]
#[delete("/v1/webhook_endpoints/{id}")]
pub(super) async fn delete_webhook_endpoint(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Webhooks)?;
    let id = request.match_info().query("id").parse();
    let id = id.map_err(|_| ApiError::not_found())?;
    let actor = caller.audit_name();
    if delete_endpoint(&ctx.db, &caller.owner, id, Some(&actor)).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(ApiError::not_found())
}
