//! An event as clients read it, in the feed and in webhooks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use jobs::{
    Job, JobId,
    events::{Event, EventType, Subject},
    queue,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ctx::Ctx,
    error::ApiError,
    job_body::{JobBody, micros},
};

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
enum Data {
    /// The job as it stands now.
    Job(Box<JobBody>),
    /// A batch; or a job that is no longer there to be read.
    Reference {
        id: String,
        #[schema(example = "batch")]
        object: &'static str,
    },
}

impl News {
    /// `job`: the one that the event is about, as far as it is there.
    pub fn new(
        event_type: EventType,
        timestamp: DateTime<Utc>,
        subject: Subject,
        job: Option<Job>,
    ) -> Self {
        let data = match (subject, job) {
            (_, Some(job)) => Data::Job(Box::new(JobBody::new(job, None))),
            (Subject::Job(id), None) => Data::Reference {
                id: id.to_string(),
                object: "job",
            },
            (Subject::Group(id), None) => Data::Reference {
                id: id.to_string(),
                object: "batch",
            },
        };
        Self {
            event_type,
            timestamp,
            data,
        }
    }
}

impl EventBody {
    fn new(event: &Event, job: Option<Job>) -> Self {
        Self {
            place: Place {
                id: event.cursor.to_string(),
                object: "event",
            },
            news: News::new(event.event_type, event.at, event.subject, job),
        }
    }

    /// Events with the jobs that they are about: one query for all of them.
    pub async fn of(ctx: &Ctx, owner: &str, events: &[Event]) -> Result<Vec<Self>, ApiError> {
        let ids: Vec<_> = events.iter().filter_map(job_of).collect();
        let jobs = queue::find_all(&ctx.db, &ids, owner).await?;
        let jobs: HashMap<_, _> = jobs.into_iter().map(|job| (job.id, job)).collect();
        let body = |event| {
            // Cloned, not taken: a job that was retried by hand may be there twice.
            let job = job_of(event).and_then(|id| jobs.get(&id).cloned());
            Self::new(event, job)
        };
        Ok(events.iter().map(body).collect())
    }
}

fn job_of(event: &Event) -> Option<JobId> {
    match event.subject {
        Subject::Job(id) => Some(id),
        Subject::Group(_) => None,
    }
}
