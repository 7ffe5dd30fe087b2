//! An event as clients read it, in the feed and in webhooks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use jobs::{
    BatchId, Job, JobId,
    batches::{self, Batch},
    events::{Event, EventType, Subject},
    queue,
    rfc3339::micros,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{batches::BatchBody, ctx::Ctx, error::ApiError, job_body::JobBody};

/// Something that happened to a job or a batch of yours.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventBody {
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    news: News,
}

#[derive(Debug, Serialize, ToSchema)]
struct Place {
    /// Also its place in the feed: `after`.
    #[schema(example = "evt_735-42-1-1764132000")]
    id: String,
    #[schema(example = "event")]
    object: &'static str,
}

/// What a webhook's body is, too.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct News {
    #[serde(rename = "type")]
    event_type: EventType,
    /// When it happened.
    #[serde(serialize_with = "micros")]
    timestamp: DateTime<Utc>,
    data: Data,
}

/// What it happened to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Data {
    /// The job as it stands now.
    Job(Box<JobBody>),
    /// The batch as it stands now.
    Batch(Box<BatchBody>),
    Gone(Gone),
}

/// A job or a batch that is no longer there to be read.
// That it has no more fields tells it from the others.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gone {
    id: String,
    #[schema(example = "job")]
    object: &'static str,
}

impl Data {
    /// `job`: if it is there.
    pub fn of_job(id: JobId, job: Option<Job>) -> Self {
        let gone = || Gone {
            id: id.to_string(),
            object: "job",
        };
        job.map_or_else(
            || Self::Gone(gone()),
            |job| Self::Job(Box::new(JobBody::new(job, None))),
        )
    }

    /// `batch`: if it is there.
    pub fn of_batch(id: BatchId, batch: Option<Batch>) -> Self {
        let gone = || Gone {
            id: id.to_string(),
            object: "batch",
        };
        batch.map_or_else(
            || Self::Gone(gone()),
            |batch| Self::Batch(Box::new(batch.into())),
        )
    }
}

impl News {
    pub fn new(event_type: EventType, timestamp: DateTime<Utc>, data: Data) -> Self {
        Self {
            event_type,
            timestamp,
            data,
        }
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
            place: Place {
                id: event.cursor.to_string(),
                object: "event",
            },
            // Cloned, not taken: what was retried by hand may be there twice.
            news: News::new(
                event.event_type,
                event.at,
                match event.subject {
                    Subject::Job(id) => Data::of_job(id, jobs.get(&id).cloned()),
                    Subject::Batch(id) => Data::of_batch(id, batches.get(&id).cloned()),
                },
            ),
        };
        Ok(events.iter().map(body).collect())
    }
}
