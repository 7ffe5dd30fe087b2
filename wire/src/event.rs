use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Attempt, Batch, Extensible, Job, Object, time::micros};

/// An event of one of your jobs or batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = EventBody))]
pub struct Event {
    /// Also its position in the feed, for `after`.
    #[cfg_attr(feature = "openapi", schema(example = "evt_735-42-1-1764132000"))]
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "event"))]
    pub object: Object,
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = EventType))]
    pub event_type: Extensible<EventType>,
    /// When it happened.
    #[serde(serialize_with = "micros")]
    pub timestamp: DateTime<Utc>,
    pub data: EventSubject,
}

/// A part of the feed, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = EventList))]
pub struct EventPage {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "list"))]
    pub object: Object,
    pub data: Vec<Event>,
    /// Send it as `after`, now or later, to get the next events without a gap.
    #[cfg_attr(feature = "openapi", schema(example = "evt_735-42-1-1764132000"))]
    pub next_cursor: String,
}

/// The job or batch of the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Data))]
#[serde(untagged)]
pub enum EventSubject {
    /// The current state of the job.
    Job(Box<Job>),
    /// The current state of the batch.
    Batch(Box<Batch>),
    Deleted(DeletedSubject),
}

/// A job or a batch that was removed.
// It refuses more fields: this tells it from a job and a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Gone))]
#[serde(deny_unknown_fields)]
pub struct DeletedSubject {
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "job"))]
    pub object: Object,
}

/// Types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// One step of a job's life; the last one has the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = StepBody))]
pub struct JobStep {
    /// Grows from step to step, and always names this step.
    pub id: i64,
    /// `job.created`, `job.started`, `job.attempt_ended`; then `job.succeeded`, `job.failed`, `job.canceled` or `job.expired`.
    #[serde(rename = "type")]
    pub step_type: String,
    #[serde(serialize_with = "micros")]
    pub at: DateTime<Utc>,
    /// The attempt that began or ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The job as it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Job>>,
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

    pub const fn as_str(self) -> &'static str {
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

/// The text is no [`EventType`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEventType;

impl fmt::Display for NotAnEventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no such event: want job.started, job.succeeded, job.failed, job.canceled, job.expired or batch.completed",
        )
    }
}

impl std::error::Error for NotAnEventType {}

impl FromStr for EventType {
    type Err = NotAnEventType;

    fn from_str(text: &str) -> Result<Self, NotAnEventType> {
        let mut all = Self::ALL.into_iter();
        all.find(|event| event.as_str() == text)
            .ok_or(NotAnEventType)
    }
}

impl Extensible<EventType> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(event) => event.as_str(),
            Self::Unknown(text) => text,
        }
    }
}

impl From<&str> for Extensible<EventType> {
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Unknown(text.to_owned()), Self::Known)
    }
}
