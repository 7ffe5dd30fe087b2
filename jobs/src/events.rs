//! Events of jobs and batches: the feed of an owner and the steps of a job.
//!
//! Only the database writes the rows, in the transaction that changes the job (`migrations/0007_events.sql`). This module
//! reads them.

mod cursor;
mod feed;
mod history;
mod tail;

use chrono::{DateTime, Utc};

pub use self::{
    cursor::{Cursor, NotACursor},
    feed::{EventPage, feed, latest, prune_events},
    history::{Step, history},
    tail::{FeedListener, FeedWatch},
};
pub use wire::EventType;

use crate::{BatchId, JobId};

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
