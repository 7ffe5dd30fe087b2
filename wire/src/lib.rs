//! The JSON of Darkroom's REST contract, as types that the API writes and clients read.
//!
//! A type writes its fields in the order of the contract. A type that is read ignores fields that it does not know;
//! only the bodies of requests refuse them.
//!
//! This crate knows neither SQL nor HTTP: it depends on serde and chrono alone. The feature `openapi` derives the schemas
//! of the OpenAPI document.

mod batch;
mod digest;
mod duration;
mod event;
mod extensible;
mod image;
mod job;
mod key;
mod list;
mod model;
mod problem;
mod queue;
mod result;
mod secret;
mod submit;
mod time;
mod usage;
mod webhook;
mod worker;

use serde::{Deserialize, Serialize};

pub use self::{
    batch::{Batch, BatchCounts, BatchResult, BatchStatus, BatchUpload, BatchUrls},
    event::{DeletedSubject, Event, EventPage, EventSubject, EventType, JobStep, NotAnEventType},
    extensible::Extensible,
    image::{Image, PresignedPut, Upload, UploadRequest},
    job::{
        Attempt, CacheOutcome, ForwardBatch, InputWarning, Job, JobAttempts, JobInput, JobRequest,
        JobStatus, JobUrls, ResolvedModel,
    },
    key::{ApiKey, ApiKeyRequest, KeyLimits, Scope},
    list::{List, Page},
    model::{
        Alias, AliasRequest, LoadErrorNote, Model, ModelFile, ModelFileUpload, ModelPush,
        ModelPushRequest, ModelVersion, MovedAlias, ParamSpec, Prefetch,
    },
    problem::{FieldError, Problem, ProblemCode},
    queue::{Explanation, ModelStats, Stats},
    result::{
        BoundingBox, Classification, Detection, Embedding, Label, MaskClass, RawOutput, Regression,
        Segmentation, StoredResult, TaskResult,
    },
    secret::ShownSecret,
    submit::{BatchLine, ImageSource, WebhookTarget},
    time::{micros, rfc3339},
    usage::{Usage, UsageList},
    webhook::{
        DeliveryAttempt, DeliveryStatus, NotADeliveryStatus, WebhookDelivery, WebhookEndpoint,
        WebhookEndpointRequest, WebhookMessage, WebhookSecret,
    },
    worker::{LoadedModel, Worker},
};

/// What a JSON object is: its field `object`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    Alias,
    ApiKey,
    Batch,
    Event,
    Image,
    Job,
    List,
    Model,
    ModelPush,
    Prefetch,
    Stats,
    Upload,
    WebhookDelivery,
    WebhookEndpoint,
}
