//! Why a model could not be loaded.

use jobs::object_store::StoreError;

use super::fault::Unreliable;

/// Why a model could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// S3, Postgres or the disk cache failed. A later try may work.
    #[error("{0}")]
    Unavailable(String),
    /// S3 does not have a file of the version, or has other bytes, although the registry says that it is stored. Another worker
    /// may have another bucket.
    #[error("{0}")]
    Absent(String),
    /// The device has too little memory for the model, even if no other model is loaded. Another worker may have enough.
    #[error("{0}")]
    TooLarge(String),
    /// The files of the version are wrong. No later try will work.
    #[error("{0}")]
    Broken(String),
    /// The model works, but its answers cannot be relied on. No later try will work.
    #[error(transparent)]
    Unreliable(#[from] Unreliable),
    /// The device fails for every model.
    #[error("{0}")]
    DeviceLost(String),
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Refused(_) => {
                Self::Unavailable(error.to_string())
            }
            StoreError::Missing(_) | StoreError::Corrupt(_) => Self::Absent(error.to_string()),
        }
    }
}
