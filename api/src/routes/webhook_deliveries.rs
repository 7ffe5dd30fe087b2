use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use chrono::{DateTime, Utc};
use jobs::{
    ProblemCode,
    events::Subject,
    keys::Scope,
    rfc3339::{micros, some_micros},
    webhooks::{DeliveryAttempt, DeliveryFilter, DeliveryStatus, DeliveryView, list, redeliver},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    openapi::{InvalidParams, NotFound},
};

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 500;

/// One event for one receiver, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryBody {
    /// The `webhook-id`, however often it is sent.
    #[schema(example = "delivery_0198f3c2a1b47d1e8c55a0f3d2e1b4c7")]
    id: String,
    #[schema(example = "webhook_delivery")]
    object: &'static str,
    #[serde(rename = "type")]
    #[schema(example = "job.succeeded")]
    event_type: String,
    status: DeliveryStatus,
    url: String,
    /// Empty: the job named the URL itself.
    endpoint_id: Option<String>,
    job_id: Option<String>,
    batch_id: Option<String>,
    #[serde(serialize_with = "micros")]
    created_at: DateTime<Utc>,
    /// When it is sent next; empty once it is delivered or given up.
    #[serde(serialize_with = "some_micros")]
    next_attempt_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    ended_at: Option<DateTime<Utc>>,
    /// The latest fifty, oldest first.
    attempts: Vec<DeliveryAttempt>,
}

/// One page of deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<DeliveryBody>,
    /// Send it back as `cursor` for the next page; empty on the last one.
    next_cursor: Option<String>,
}

impl From<DeliveryView> for DeliveryBody {
    fn from(listed: DeliveryView) -> Self {
        let (job_id, batch_id) = match listed.subject {
            Subject::Job(id) => (Some(id.to_string()), None),
            Subject::Batch(id) => (None, Some(id.to_string())),
        };
        Self {
            id: listed.id.to_string(),
            object: "webhook_delivery",
            event_type: listed.event_type,
            status: listed.status,
            url: listed.url,
            endpoint_id: listed.endpoint.map(|id| id.to_string()),
            job_id,
            batch_id,
            created_at: listed.at,
            next_attempt_at: listed.next_attempt_at,
            ended_at: listed.ended_at,
            attempts: listed.attempts,
        }
    }
}

/// What was sent to your receivers, or is to be: each attempt, and what was wrong with it.
#[utoipa::path(
    get, path = "/v1/webhook_deliveries", operation_id = "list_webhook_deliveries", tag = "events",
    params(
        ("status" = Option<DeliveryStatus>, Query, description = "Only deliveries in this state"),
        ("job_id" = Option<String>, Query, description = "Only about this job"),
        ("endpoint_id" = Option<String>, Query, description = "Only to this endpoint"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "1 to 500 deliveries a page; 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = DeliveryList, headers(("Link" = String, description = "`rel=\"next\"`"))),
        InvalidParams,
    ),
)]
pub(crate) async fn list_webhook_deliveries(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let (filter, limit) = parse(request.query_string())?;
    let mut listed = list(&ctx.db, &caller.owner, &filter, limit + 1).await?;
    let more = listed.len() > usize::from(limit);
    listed.truncate(limit.into());
    let next_cursor = listed.last().filter(|_| more).map(|one| one.id.to_string());
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = &next_cursor {
        let query = form_urlencoded::parse(request.query_string().as_bytes());
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query.filter(|(name, _)| name != "cursor"))
            .append_pair("cursor", cursor)
            .finish();
        let link = format!("</v1/webhook_deliveries?{query}>; rel=\"next\"");
        response.insert_header((header::LINK, link));
    }
    Ok(response.json(DeliveryList {
        object: "list",
        data: listed.into_iter().map(DeliveryBody::from).collect(),
        next_cursor,
    }))
}

fn parse(query: &str) -> Result<(DeliveryFilter, u16), ApiError> {
    let (mut filter, mut limit) = (DeliveryFilter::default(), LIMIT_DEFAULT);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let refused = match name.as_ref() {
            "status" => match value.parse() {
                Ok(status) => filter.status.replace(status).is_some(),
                Err(_) => true,
            },
            "job_id" => match value.parse() {
                Ok(job) => filter.job.replace(job).is_some(),
                Err(_) => true,
            },
            "endpoint_id" => match value.parse() {
                Ok(endpoint) => filter.endpoint.replace(endpoint).is_some(),
                Err(_) => true,
            },
            "cursor" => match value.parse() {
                Ok(before) => filter.before.replace(before).is_some(),
                Err(_) => true,
            },
            "limit" => {
                limit = value.parse().unwrap_or_default();
                !(1..=LIMIT_MAX).contains(&limit)
            }
            _ => true,
        };
        if refused {
            let summary = "a query parameter is not acceptable";
            let error = ApiError::new(ProblemCode::InvalidParams, summary);
            let detail = "unknown, repeated, or not of a kind that it could be";
            return Err(error.with_error(&format!("/{name}"), "invalid", detail));
        }
    }
    Ok((filter, limit))
}

/// Sends a delivery again, whatever came of it: under its id, at once, with a new budget of attempts.
#[utoipa::path(
    post, path = "/v1/webhook_deliveries/{id}/redeliver", operation_id = "redeliver_webhook", tag = "events",
    params(("id" = String, Path, description = "`delivery_` and 32 hex digits")),
    responses(
        (status = 202, description = "It will be sent"),
        NotFound,
    ),
)]
pub(crate) async fn redeliver_webhook(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = request.match_info().query("id").parse();
    let id = id.map_err(|_| ApiError::not_found())?;
    if redeliver(&ctx.db, id, &caller.owner).await? {
        return Ok(HttpResponse::Accepted().finish());
    }
    Err(ApiError::not_found())
}
