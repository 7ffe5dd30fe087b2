//! `job.result`, one type for each task.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The prediction of a job, told apart by its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TaskResult {
    Classify(Classification),
    Detect(Detection),
    Segment(Segmentation),
    Embed(Embedding),
    Regress(Regression),
    Raw(RawOutput),
    /// A result of any task that is too large for the job's document.
    Stored(StoredResult),
    /// A task that this version does not know.
    Other(Value),
}

/// The result of a `classify` job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Classification {
    /// The best `top_k`, best first.
    pub labels: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Label {
    /// Empty if the model names no labels.
    pub label: Option<String>,
    pub index: u32,
    pub score: f64,
}

/// The result of a `detect` job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Detection {
    /// Best first.
    pub boxes: Vec<BoundingBox>,
}

/// A detected object, in pixels of the upright image; `x`, `y` is the upper left corner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BoundingBox {
    /// Empty if the model names no labels.
    pub label: Option<String>,
    pub index: u32,
    pub score: f64,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The result of a `segment` job: the class of each pixel of the upright image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Segmentation {
    /// A PNG of 8-bit gray: the index of the class, 255 where the model did not look.
    pub mask_url: String,
    /// Pixels.
    pub width: u32,
    pub height: u32,
    /// The classes that occur.
    pub classes: Vec<MaskClass>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MaskClass {
    /// Empty if the model names no labels.
    pub label: Option<String>,
    pub index: u32,
    pub pixels: u64,
}

/// The result of an `embed` job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Embedding {
    pub embedding: Vec<f64>,
    pub dim: u32,
}

/// The result of a `regress` job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Regression {
    pub value: f64,
    /// Empty if the model names no unit.
    pub unit: Option<String>,
}

/// The result of a `raw` job: the model's output, row after row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RawOutput {
    pub shape: Vec<u64>,
    pub data: Vec<f64>,
}

/// Where to read a result that is too large for the job's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredResult {
    pub url: String,
    pub bytes: u64,
}
