//! Events of jobs and batches: the feed of an owner and the steps of a job.
//!
//! Only the database writes the rows, in the transaction that changes the job (`migrations/0007_events.sql`). This module
//! reads them.

mod cursor;
mod feed;
mod history;
mod tail;

use std::str::FromStr;

use chrono::{DateTime, Utc};

pub use self::{
    cursor::{Cursor, NotACursor},
    feed::{EventPage, feed, latest, prune_events},
    history::{Step, history},
    tail::{FeedListener, FeedWatch},
};
use crate::{BatchId, JobId};

/// Types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    JobStarted,
    JobSucceeded,
    JobFailed,
    JobCanceled,
    JobExpired,
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

/// The job or batch of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Job(JobId),
    Batch(BatchId),
}

impl Subject {
    /// From two columns, exactly one of them set.
    pub(crate) fn from_columns(
        job: Option<uuid::Uuid>,
        batch: Option<uuid::Uuid>,
    ) -> Result<Self, sqlx::Error> {
        let job = job.map(|job| Self::Job(job.into()));
        job.or_else(|| batch.map(|batch| Self::Batch(batch.into())))
            .ok_or_else(|| sqlx::Error::Decode("an event has neither job nor batch".into()))
    }
}

/// One event of the feed.
#[derive(Debug, Clone)]
pub struct Event {
    /// The event's id, and its place in the feed.
    pub cursor: Cursor,
    pub event_type: EventType,
    pub at: DateTime<Utc>,
    pub subject: Subject,
}
