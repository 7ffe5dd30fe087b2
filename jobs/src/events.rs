//! What happened to jobs and batches, for those who were not there.
//!
//! The rows are written by the database alone, in the transaction that they are about (`migrations/0013_events.sql`); here
//! they are read.

mod cursor;
mod feed;
mod history;
mod tail;

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::{
    cursor::{Cursor, NotACursor},
    feed::{EventPage, feed, latest, prune_events},
    history::{Step, history},
    tail::{FeedListener, FeedWatch},
};
use crate::{BatchId, JobId};

/// What can happen that others are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum EventType {
    #[serde(rename = "job.started")]
    JobStarted,
    #[serde(rename = "job.succeeded")]
    JobSucceeded,
    #[serde(rename = "job.failed")]
    JobFailed,
    #[serde(rename = "job.canceled")]
    JobCanceled,
    #[serde(rename = "job.expired")]
    JobExpired,
    #[serde(rename = "batch.completed")]
    BatchCompleted,
}

impl EventType {
    pub const ALL: [Self; 6] = [
        Self::JobStarted,
        Self::JobSucceeded,
        Self::JobFailed,
        Self::JobCanceled,
        Self::JobExpired,
        Self::BatchCompleted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobStarted => "job.started",
            Self::JobSucceeded => "job.succeeded",
            Self::JobFailed => "job.failed",
            Self::JobCanceled => "job.canceled",
            Self::JobExpired => "job.expired",
            Self::BatchCompleted => "batch.completed",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "no such event: want job.started, job.succeeded, job.failed, job.canceled, job.expired or batch.completed"
)]
pub struct NotAnEvent;

impl FromStr for EventType {
    type Err = NotAnEvent;

    fn from_str(text: &str) -> Result<Self, NotAnEvent> {
        Self::ALL
            .into_iter()
            .find(|event| event.as_str() == text)
            .ok_or(NotAnEvent)
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Job(JobId),
    Batch(BatchId),
}

impl Subject {
    /// From two columns of which one is set.
    pub(crate) fn from_columns(
        job: Option<uuid::Uuid>,
        batch: Option<uuid::Uuid>,
    ) -> Result<Self, sqlx::Error> {
        let job = job.map(|job| Self::Job(job.into()));
        job.or_else(|| batch.map(|batch| Self::Batch(batch.into())))
            .ok_or_else(|| sqlx::Error::Decode("an event is about nothing".into()))
    }
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place in the feed, and its id.
    pub cursor: Cursor,
    pub event_type: EventType,
    pub at: DateTime<Utc>,
    pub subject: Subject,
}
