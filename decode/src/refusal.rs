//! Why an image is refused.

use std::error::Error;

use serde::{Deserialize, Serialize};

/// Why an image is refused. No later try can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The bytes are no image, or an image of a format that is not accepted.
    UnsupportedFormat,
    /// The image has more pixels, or takes more memory, than the limits allow.
    TooManyPixels,
    /// The image is damaged, cut short, or of an unusual kind.
    Undecodable,
}

/// The refusal of an image.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    pub reason: Reason,
    /// One sentence for the client.
    pub detail: String,
    /// For the log only.
    #[source]
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Refusal {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            cause: None,
        }
    }

    pub(crate) fn undecodable(detail: impl Into<String>) -> Self {
        Self::new(Reason::Undecodable, detail)
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}
