use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use jobs::{BatchId, batches, keys::Scope};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Caller, batches::BatchBody, ctx::Ctx, error::ApiError, job_request::invalid,
    openapi::InvalidParams,
};

const LIMIT_DEFAULT: u16 = 20;
const LIMIT_MAX: u16 = 100;

/// One page of batches, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<BatchBody>,
    /// Send it back as `cursor` for the next page; empty on the last one.
    next_cursor: Option<String>,
}

/// Your batches, newest first.
#[utoipa::path(
    get, path = "/v1/batches", operation_id = "list_batches", tag = "batches",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 100, description = "Up to 100; 20 if you do not say"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = BatchList, headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        InvalidParams,
    ),
)]
pub(crate) async fn list_batches(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let (before, limit) = asked(request.query_string())?;
    let mut page = batches::list(&ctx.db, &caller.owner, before, limit + 1).await?;
    let more = page.len() > usize::from(limit);
    page.truncate(limit.into());
    let next_cursor = page.last().filter(|_| more).map(|one| one.id.to_string());
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = &next_cursor {
        let next = format!("</v1/batches?limit={limit}&cursor={cursor}>; rel=\"next\"");
        response.insert_header((header::LINK, next));
    }
    Ok(response.json(BatchList {
        object: "list",
        data: page.into_iter().map(BatchBody::from).collect(),
        next_cursor,
    }))
}

fn asked(query: &str) -> Result<(Option<BatchId>, u16), ApiError> {
    let (mut before, mut limit) = (None, LIMIT_DEFAULT);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let fault = match &*name {
            "cursor" => match value.parse() {
                Ok(cursor) => {
                    before = Some(cursor);
                    continue;
                }
                Err(_) => "is not a cursor of ours",
            },
            "limit" => match value.parse() {
                Ok(wanted) if (1..=LIMIT_MAX).contains(&wanted) => {
                    limit = wanted;
                    continue;
                }
                _ => "must lie in 1..=100",
            },
            _ => "there is no such parameter",
        };
        return Err(invalid(&format!("/{name}"), "invalid", fault));
    }
    Ok((before, limit))
}
