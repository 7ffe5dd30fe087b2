//! `/v1/events`: the feed of an owner. Webhooks send its events.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, get, web::Data};
use chrono::{DateTime, Utc};
use jobs::{
    BatchId, Job, JobId,
    batches::{self, Batch},
    events::{Cursor, Event, EventType, Subject, feed, latest},
    keys::Scope,
    queue,
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use wire::{DeletedSubject, EventSubject, Extensible, Object, WebhookMessage};

use super::batches::body::batch_body;
use crate::{
    ctx::Ctx,
    http::{
        error::ApiError,
        json_page::JsonPage,
        paging::{parse_limit, read_query},
        waiting::WaitPreference,
    },
    job_fields::job_body,
    limits::keyring::Caller,
    openapi::InvalidParams,
};

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 200;
/// Jobs in memory need much more room than their JSON.
const EVENTS_READ_AT_ONCE: usize = 50;
/// In place of a cursor: only events from now on.
const LATEST: &str = "latest";

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(list_events);
}

/// A part of the feed, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    #[schema(example = "list")]
    object: &'static str,
    #[schema(value_type = Vec<EventBody>)]
    data: Vec<Box<RawValue>>,
    /// Send it as `after`, now or later, to get the next events without a gap.
    #[schema(example = "evt_735-42-1-1764132000")]
    next_cursor: String,
}

/// The events of your jobs and batches: the same ones that webhooks send.
///
/// Each event comes once, in a fixed order. A reader continues from its last `next_cursor`, however old. Events are kept for 30
/// days by default.
#[utoipa::path(
    operation_id = "list_events", tag = "events",
    params(
        ("after" = Option<String>, Query, description = "`next_cursor` of the page before, or the `id` of an event; `latest`: only events from now on; by default from the beginning"),
        ("types" = Option<String>, Query, description = "Only events of these types, separated by commas: `job.failed,batch.completed`"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "1 to 200 events; 50 by default. A page of jobs with large results is shorter"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold an empty answer up to N (60) seconds for an event"),
    ),
    responses(
        (status = 200, description = "Some events; perhaps none yet", body = EventList),
        InvalidParams,
    ),
)]
#[get("/v1/events")]
async fn list_events(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let query = FeedQuery::parse(request.query_string())?;
    let preference = WaitPreference::of(&request);
    let owner = caller.owner.as_str();
    let watch = preference.map(|_| ctx.feed.watch(owner));
    let after = match query.after {
        Some(after) => after,
        None => latest(&ctx.db).await?,
    };
    let page = loop {
        // Boxed, so that a waiting request does not hold the memory of this future.
        let page = Box::pin(ctx.reads.run(owner, async |db| {
            feed(&mut *db, owner, after, &query.types, query.limit).await
        }))
        .await?;
        let remaining = preference.and_then(|preference| preference.remaining(ctx.shutdown()));
        let (Some(remaining), Some(watch), true) = (remaining, &watch, page.events.is_empty())
        else {
            break page;
        };
        let grown = watch.grown(remaining);
        ctx.shutdown().run_until_cancelled(grown).await;
    };
    let mut response = HttpResponse::Ok();
    if let Some(preference) = preference {
        response.insert_header(preference.applied());
    }
    let (data, last) = write(&ctx, owner, &page.events).await?;
    Ok(response.json(EventList {
        object: "list",
        data,
        next_cursor: last.unwrap_or(page.next).to_string(),
    }))
}

/// The JSON of the events, as many as fit on a page; and the cursor of the last one, if not all fit.
async fn write(
    ctx: &Ctx,
    owner: &str,
    events: &[Event],
) -> Result<(Vec<Box<RawValue>>, Option<Cursor>), ApiError> {
    let mut page = JsonPage::new(ctx.config.limits.page_bytes_max);
    for some in events.chunks(EVENTS_READ_AT_ONCE) {
        let bodies = EventBody::of(ctx, owner, some).await?;
        for (event, body) in some.iter().zip(bodies) {
            page.push(&body);
            if page.is_full() {
                let last = (page.len() < events.len()).then_some(event.cursor);
                return Ok((page.into_items(), last));
            }
        }
    }
    Ok((page.into_items(), None))
}

/// The parsed query of the feed.
#[derive(Debug)]
pub(crate) struct FeedQuery {
    /// `None`: from now on.
    after: Option<Cursor>,
    types: Vec<EventType>,
    limit: u16,
}

impl FeedQuery {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut query = Self {
            after: Some(Cursor::BEGINNING),
            types: Vec::new(),
            limit: LIMIT_DEFAULT,
        };
        read_query(text, |name, value| query.take(name, value))?;
        Ok(query)
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
            "limit" => self.limit = parse_limit(value, LIMIT_MAX).ok_or("must lie in 1..=200")?,
            _ => return Err("there is no such parameter".into()),
        }
        Ok(())
    }
}

/// An event of one of your jobs or batches.
// Not `wire::Event`: the OpenAPI document has the id and the content as two schemas.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventBody {
    #[serde(flatten)]
    identity: EventIdentity,
    #[serde(flatten)]
    content: WebhookMessage,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Place)]
struct EventIdentity {
    /// Also its position in the feed, for `after`.
    #[schema(example = "evt_735-42-1-1764132000")]
    id: String,
    #[schema(example = "event")]
    object: &'static str,
}

/// The current state of the job of an event. `None`: the job was removed.
pub(crate) fn job_subject(id: JobId, job: Option<Job>) -> EventSubject {
    match job {
        Some(job) => EventSubject::Job(Box::new(job_body(job, None))),
        None => EventSubject::Deleted(DeletedSubject {
            id: id.to_string(),
            object: Object::Job,
        }),
    }
}

/// The current state of the batch of an event. `None`: the batch was removed.
pub(crate) fn batch_subject(id: BatchId, batch: Option<Batch>) -> EventSubject {
    match batch {
        Some(batch) => EventSubject::Batch(Box::new(batch_body(batch))),
        None => EventSubject::Deleted(DeletedSubject {
            id: id.to_string(),
            object: Object::Batch,
        }),
    }
}

/// The body of a webhook, which is also the content of an event of the feed.
pub(crate) fn webhook_message(
    event_type: EventType,
    timestamp: DateTime<Utc>,
    data: EventSubject,
) -> WebhookMessage {
    WebhookMessage {
        event_type: Extensible::Known(event_type),
        timestamp,
        data,
    }
}

impl EventBody {
    /// Events with the jobs and batches that they are about: one query for all jobs, one for all batches.
    pub async fn of(ctx: &Ctx, owner: &str, events: &[Event]) -> Result<Vec<Self>, ApiError> {
        let (mut jobs, mut batches) = (Vec::new(), Vec::new());
        for event in events {
            match event.subject {
                Subject::Job(id) => jobs.push(id),
                Subject::Batch(id) => batches.push(id),
            }
        }
        let jobs = queue::find_all(&ctx.db, &jobs, owner).await?;
        let jobs: HashMap<_, _> = jobs.into_iter().map(|job| (job.id, job)).collect();
        let batches = batches::find_all(&ctx.db, &batches, owner).await?;
        let batches: HashMap<_, _> = batches.into_iter().map(|batch| (batch.id, batch)).collect();
        let body = |event: &Event| Self {
            identity: EventIdentity {
                id: event.cursor.to_string(),
                object: "event",
            },
            // Cloned: a job that was retried by hand may have two events.
            content: webhook_message(
                event.event_type,
                event.at,
                match event.subject {
                    Subject::Job(id) => job_subject(id, jobs.get(&id).cloned()),
                    Subject::Batch(id) => batch_subject(id, batches.get(&id).cloned()),
                },
            ),
        };
        Ok(events.iter().map(body).collect())
    }
}
