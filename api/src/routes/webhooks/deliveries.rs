use actix_web::{HttpRequest, HttpResponse, get, post, web::Data};
use jobs::{
    events::Subject,
    keys::Scope,
    webhooks::{DeliveryAttempt, DeliveryFilter, DeliveryView, list, redeliver},
};
use serde::Serialize;
use utoipa::ToSchema;
use wire::{Object, WebhookDelivery};

use crate::{
    ctx::Ctx,
    http::{
        error::ApiError,
        paging::{cut_page, next_link, parse_limit, read_query},
    },
    limits::keyring::Caller,
    openapi::{InvalidParams, NotFound},
};

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 500;

/// One page of deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<WebhookDelivery>,
    /// The `cursor` of the next page; empty on the last page.
    next_cursor: Option<String>,
}

fn delivery_body(listed: DeliveryView) -> WebhookDelivery {
    let (job_id, batch_id) = match listed.subject {
        Subject::Job(id) => (Some(id.to_string()), None),
        Subject::Batch(id) => (None, Some(id.to_string())),
    };
    WebhookDelivery {
        id: listed.id.to_string(),
        object: Object::WebhookDelivery,
        event_type: listed.event_type,
        status: listed.status,
        url: listed.url,
        endpoint_id: listed.endpoint.map(|id| id.to_string()),
        job_id,
        batch_id,
        created_at: listed.at,
        next_attempt_at: listed.next_attempt_at,
        ended_at: listed.ended_at,
        attempts: listed.attempts.into_iter().map(attempt_body).collect(),
    }
}

fn attempt_body(attempt: DeliveryAttempt) -> wire::DeliveryAttempt {
    wire::DeliveryAttempt {
        at: attempt.at,
        status: attempt.status,
        error: attempt.error,
        took_ms: attempt.took_ms,
    }
}

/// The webhooks to your receivers: sent or still to send, with each attempt and its error.
#[utoipa::path(
    operation_id = "list_webhook_deliveries", tag = "events",
    params(
        ("status" = Option<wire::DeliveryStatus>, Query, description = "Only deliveries in this state"),
        ("job_id" = Option<String>, Query, description = "Only about this job"),
        ("endpoint_id" = Option<String>, Query, description = "Only to this endpoint"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "1 to 500 deliveries a page; 50 by default"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = DeliveryList, headers(("Link" = String, description = "`rel=\"next\"`"))),
        InvalidParams,
    ),
)]
#[get("/v1/webhook_deliveries")]
pub(super) async fn list_webhook_deliveries(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Webhooks)?;
    let (filter, limit) = parse(request.query_string())?;
    let read = ctx.reads.page(&caller.owner, async |db| {
        list(&mut *db, &caller.owner, &filter, limit + 1).await
    });
    let mut listed = read.await?;
    let next_cursor = cut_page(&mut listed, limit, |delivery| delivery.id.to_string());
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = &next_cursor {
        response.insert_header(next_link(&request, cursor));
    }
    Ok(response.json(DeliveryList {
        object: "list",
        data: listed.into_iter().map(delivery_body).collect(),
        next_cursor,
    }))
}

pub(crate) fn parse(query: &str) -> Result<(DeliveryFilter, u16), ApiError> {
    let (mut filter, mut limit) = (DeliveryFilter::default(), LIMIT_DEFAULT);
    read_query(query, |name, value| {
        let accepted = match name {
            "status" => set_once(&mut filter.status, value),
            "job_id" => set_once(&mut filter.job, value),
            "endpoint_id" => set_once(&mut filter.endpoint, value),
            "cursor" => set_once(&mut filter.before, value),
            "limit" => parse_limit(value, LIMIT_MAX).map(|parsed| limit = parsed),
            _ => None,
        };
        accepted.ok_or("unknown, repeated, or not of a kind that it could be")
    })?;
    Ok((filter, limit))
}

/// Sets a field from its text; `None` if it does not parse or is set already.
fn set_once<T: std::str::FromStr>(field: &mut Option<T>, value: &str) -> Option<()> {
    let before = field.replace(value.parse().ok()?);
    before.is_none().then_some(())
}

/// Sends a delivery again at once, whether it succeeded or failed. It keeps its id and gets new attempts.
#[utoipa::path(
    operation_id = "redeliver_webhook", tag = "events",
    params(("id" = String, Path, description = "`delivery_` and 32 hex digits")),
    responses(
        (status = 202, description = "It will be sent"),
        NotFound,
    ),
)]
#[post("/v1/webhook_deliveries/{id}/redeliver")]
pub(super) async fn redeliver_webhook(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Webhooks)?;
    let id = request.match_info().query("id").parse();
    let id = id.map_err(|_| ApiError::not_found())?;
    if redeliver(&ctx.db, id, &caller.owner).await? {
        return Ok(HttpResponse::Accepted().finish());
    }
    Err(ApiError::not_found())
}
