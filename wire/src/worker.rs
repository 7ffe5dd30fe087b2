use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::time::micros;

/// One worker process, as `ops.workers` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = WorkerView))]
pub struct Worker {
    pub worker_id: i64,
    pub name: String,
    pub device: String,
    pub build: String,
    /// Names of the models that it runs; empty for any.
    pub models: Vec<String>,
    #[serde(serialize_with = "micros")]
    pub registered_at: DateTime<Utc>,
    #[serde(serialize_with = "micros")]
    pub lease_until: DateTime<Utc>,
    /// `alive`, `draining`, `lost` or `ended`.
    pub status: String,
    /// Number of jobs that it holds.
    pub running: i64,
    /// Models that it has loaded.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub loaded: Vec<LoadedModel>,
}

/// A model version that a worker has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoadedModel {
    #[cfg_attr(feature = "openapi", schema(example = "efficientnet-lite0:1"))]
    pub model: String,
    /// `fp32`, `bf16` or `fp16`.
    #[cfg_attr(feature = "openapi", schema(example = "fp32"))]
    pub precision: String,
    /// Images of one forward pass: measured when the model was loaded, and halved whenever memory ran out.
    #[cfg_attr(feature = "openapi", schema(example = 8))]
    pub batch_best: u32,
    /// Name of the artifact in the manifest: `artifact`, or one of `artifacts` that fits the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "model.pt"))]
    pub artifact: Option<String>,
    /// What the worker found wrong with the model although it runs. `docs/models.md` has the cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}
