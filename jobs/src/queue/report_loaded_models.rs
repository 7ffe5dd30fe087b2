use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};

use super::QueueError;
use crate::WorkerId;

/// A model version that a worker has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModel {
    pub model: String,
    /// `fp32`, `bf16` or `fp16`.
    pub precision: String,
    /// Images of one forward pass: measured when the model was loaded, and halved whenever memory ran out.
    pub batch_best: u32,
    /// Name of the artifact in the manifest. `None` in a list that an older worker wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// What the worker found wrong with the model although it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Stores the models that a worker has loaded, for operators only: no decision depends on it.
///
/// # Errors
/// Postgres is away.
pub async fn report_loaded_models(
    db: &PgPool,
    worker: WorkerId,
    loaded: &[LoadedModel],
) -> Result<(), QueueError> {
    sqlx::query!(
        "update workers set loaded = $2 where worker_id = $1 and ended_at is null",
        worker.0,
        Json(loaded) as _
    )
    .execute(db)
    .await?;
    Ok(())
}
