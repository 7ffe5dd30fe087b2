use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    ProblemCode,
    events::{Cursor, EventType, feed, latest},
    keys::Scope,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Caller, ctx::Ctx, error::ApiError, event_body::EventBody, openapi::InvalidParams,
    wait::Preferred,
};

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 200;
/// In place of a cursor: whatever comes from now on.
const LATEST: &str = "latest";

/// A part of the feed, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<EventBody>,
    /// Send it back as `after`, now or later: no event is left out in between.
    #[schema(example = "evt_735-42-1-1764132000")]
    next_cursor: String,
}

/// What happened to your jobs and batches: the same news that webhooks send.
///
/// Each event comes once, in an order that does not change; a reader that was away goes on from its last `next_cursor`. Events
/// stay for thirty days, unless the service is told otherwise.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "list_events", tag = "events",
    params(
        ("after" = Option<String>, Query, description = "`next_cursor` of the page before, or the `id` of an event; `latest`: only what comes from now on; from the beginning if left out"),
        ("types" = Option<String>, Query, description = "Only events of these types, by commas: `job.failed,batch.completed`"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "1 to 200 events; 50 if left out"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold an empty answer up to N (60) seconds for an event"),
    ),
    responses(
        (status = 200, description = "Some events; perhaps none yet", body = EventList),
        InvalidParams,
    ),
)]
pub(crate) async fn list_events(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let asked = Asked::parse(request.query_string())?;
    let preferred = Preferred::of(&request);
    let owner = caller.owner.as_str();
    let watch = preferred.map(|_| ctx.feed.watch(owner));
    let after = match asked.after {
        Some(after) => after,
        None => latest(&ctx.db).await?,
    };
    let page = loop {
        // Boxed: a waiter has no need for its room.
        let page = Box::pin(feed(&ctx.db, owner, after, &asked.types, asked.limit)).await?;
        let left = preferred.and_then(Preferred::left);
        let (Some(left), Some(watch), true) = (left, &watch, page.events.is_empty()) else {
            break page;
        };
        if *ctx.leaving.borrow() {
            break page;
        }
        tokio::select! { () = watch.grown(left) => {} () = ctx.leaves() => {} }
    };
    let mut response = HttpResponse::Ok();
    if let Some(preferred) = preferred {
        response.insert_header(preferred.applied());
    }
    Ok(response.json(EventList {
        object: "list",
        data: EventBody::of(&ctx, owner, &page.events).await?,
        next_cursor: page.next.to_string(),
    }))
}

/// The query of the feed, understood.
#[derive(Debug)]
struct Asked {
    /// `None`: from now on.
    after: Option<Cursor>,
    types: Vec<EventType>,
    limit: u16,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut asked = Self {
            after: Some(Cursor::BEGINNING),
            types: Vec::new(),
            limit: LIMIT_DEFAULT,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            asked.take(&name, &value).map_err(|detail| {
                let summary = "a query parameter is not acceptable";
                ApiError::new(ProblemCode::InvalidParams, summary).with_error(
                    &format!("/{name}"),
                    "invalid",
                    detail,
                )
            })?;
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "after" if value == LATEST => self.after = None,
            "after" => {
                let cursor = value.parse().map_err(|_| "is not a cursor of ours")?;
                self.after = Some(cursor);
            }
            "types" => {
                let types = value.split(',').map(|one| one.trim().parse::<EventType>());
                let types = types.collect::<Result<_, _>>();
                self.types = types.map_err(|error| error.to_string())?;
            }
            "limit" => {
                let limit = value.parse().ok();
                let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit));
                self.limit = limit.ok_or("must lie in 1..=200")?;
            }
            _ => return Err("there is no such parameter".into()),
        }
        Ok(())
    }
}
