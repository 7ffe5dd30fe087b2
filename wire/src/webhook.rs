use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    EventSubject, EventType, Extensible, Object, ShownSecret,
    time::{micros, some_micros},
};

/// The body of a webhook, which is also the content of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = News))]
pub struct WebhookMessage {
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = EventType))]
    pub event_type: Extensible<EventType>,
    /// When it happened.
    #[serde(serialize_with = "micros")]
    pub timestamp: DateTime<Utc>,
    pub data: EventSubject,
}

/// The body of `POST /v1/webhook_endpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = EndpointRequest))]
#[serde(deny_unknown_fields)]
pub struct WebhookEndpointRequest {
    /// `https://…`, at a public address.
    pub url: String,
    /// The events to send there; all if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<EventType>>))]
    pub events: Option<Vec<Extensible<EventType>>>,
}

/// A receiver of your webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = EndpointBody))]
pub struct WebhookEndpoint {
    #[cfg_attr(
        feature = "openapi",
        schema(example = "endpoint_0198f3c2a1b47d1e8c55a0f3d2e1b4c7")
    )]
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "webhook_endpoint"))]
    pub object: Object,
    pub url: String,
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<EventType>))]
    pub events: Vec<Extensible<EventType>>,
    #[serde(serialize_with = "micros")]
    pub created_at: DateTime<Utc>,
    /// When the endpoint was disabled because it answered 410. To enable it, delete it and create it again.
    #[serde(serialize_with = "some_micros")]
    pub disabled_at: Option<DateTime<Utc>>,
    /// The secret that signs the webhooks. Only this response shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "whsec_…"))]
    pub secret: Option<ShownSecret>,
}

/// The secret that signs the webhooks of single jobs. Endpoints have their own secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = SecretBody))]
pub struct WebhookSecret {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "whsec_…"))]
    pub secret: ShownSecret,
    /// Until when the previous secret also signs.
    #[serde(serialize_with = "some_micros")]
    pub previous_until: Option<DateTime<Utc>>,
}

/// One event for one receiver, and its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = DeliveryBody))]
pub struct WebhookDelivery {
    /// Also the `webhook-id` of every attempt.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "delivery_0198f3c2a1b47d1e8c55a0f3d2e1b4c7")
    )]
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "webhook_delivery"))]
    pub object: Object,
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(example = "job.succeeded"))]
    pub event_type: String,
    pub status: DeliveryStatus,
    pub url: String,
    /// Empty: the job named the URL itself.
    pub endpoint_id: Option<String>,
    pub job_id: Option<String>,
    pub batch_id: Option<String>,
    #[serde(serialize_with = "micros")]
    pub created_at: DateTime<Utc>,
    /// When the next attempt is due; empty once the delivery has ended.
    #[serde(serialize_with = "some_micros")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    pub ended_at: Option<DateTime<Utc>>,
    /// The latest fifty, oldest first.
    pub attempts: Vec<DeliveryAttempt>,
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Status))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Not sent yet, or waiting for its next attempt.
    Pending,
    /// Answered with 2xx.
    Delivered,
    /// No attempt follows.
    Failed,
}

/// One attempt to send a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Entry))]
pub struct DeliveryAttempt {
    #[serde(serialize_with = "micros")]
    pub at: DateTime<Utc>,
    /// HTTP status; empty without a response.
    pub status: Option<u16>,
    /// What went wrong; empty after a success.
    pub error: Option<String>,
    /// Milliseconds; empty if nothing was sent.
    pub took_ms: Option<f64>,
}

impl DeliveryStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// The text is no [`DeliveryStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADeliveryStatus;

impl fmt::Display for NotADeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be pending, delivered or failed")
    }
}

impl std::error::Error for NotADeliveryStatus {}

impl FromStr for DeliveryStatus {
    type Err = NotADeliveryStatus;

    fn from_str(text: &str) -> Result<Self, NotADeliveryStatus> {
        let mut all = [Self::Pending, Self::Delivered, Self::Failed].into_iter();
        all.find(|status| status.as_str() == text)
            .ok_or(NotADeliveryStatus)
    }
}
