use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header,
    post,
    web::{Data, Payload},
};
use chrono::{DateTime, Utc};
use jobs::{
    ProblemCode, Secret,
    events::EventType,
    keys::Scope,
    rfc3339::{micros, some_micros},
    webhooks::{Endpoint, create_endpoint, delete_endpoint, endpoints, new_secret},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ctx::Ctx,
    http::{error::ApiError, json::read_json},
    limits::keyring::Caller,
    openapi::{InvalidRequest, NotFound, SlowBody},
};

/// A receiver of your webhooks.
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

/// A receiver of your webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointBody {
    #[schema(example = "endpoint_0198f3c2a1b47d1e8c55a0f3d2e1b4c7")]
    id: String,
    #[schema(example = "webhook_endpoint")]
    object: &'static str,
    url: String,
    events: Vec<EventType>,
    #[serde(serialize_with = "micros")]
    created_at: DateTime<Utc>,
    /// When the endpoint was disabled because it answered 410. To enable it, delete it and create it again.
    #[serde(serialize_with = "some_micros")]
    disabled_at: Option<DateTime<Utc>>,
    /// The secret that signs the webhooks. Only this response shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_…")]
    secret: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<EndpointBody>,
}

impl EndpointBody {
    fn new(endpoint: Endpoint, secret: Option<&Secret>) -> Self {
        Self {
            id: endpoint.id.to_string(),
            object: "webhook_endpoint",
            url: endpoint.url,
            events: endpoint.events,
            created_at: endpoint.created_at,
            disabled_at: endpoint.disabled_at,
            secret: secret.map(|secret| secret.expose().to_owned()),
        }
    }
}

/// Creates an endpoint: a URL that gets webhooks of your events from now on.
#[utoipa::path(
    operation_id = "create_webhook_endpoint", tag = "events",
    request_body = EndpointRequest,
    responses(
        (status = 201, description = "Created; only this response shows its secret", body = EndpointBody),
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
    caller.needs(Scope::Submit)?;
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
    let secret = new_secret();
    let made = create_endpoint(
        &ctx.db,
        &caller.owner,
        url.as_str(),
        &endpoint.events,
        &secret,
        endpoints_max.into(),
    );
    let made = made.await?.ok_or_else(|| {
        let detail = format!("you have {endpoints_max} endpoints: delete one first");
        ApiError::new(ProblemCode::InvalidParams, detail)
    })?;
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(EndpointBody::new(made, Some(&secret))))
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
    caller.needs(Scope::Read)?;
    let endpoints = endpoints(&ctx.db, &caller.owner).await?.into_iter();
    Ok(HttpResponse::Ok().json(EndpointList {
        object: "list",
        data: endpoints.map(|one| EndpointBody::new(one, None)).collect(),
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
    caller.needs(Scope::Submit)?;
    let id = request.match_info().query("id").parse();
    let id = id.map_err(|_| ApiError::not_found())?;
    if delete_endpoint(&ctx.db, &caller.owner, id).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(ApiError::not_found())
}
