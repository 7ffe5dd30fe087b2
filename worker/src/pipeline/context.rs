//! What every stage of the pipeline may need.

use std::sync::Arc;

use jobs::{db::Kept, object_store::ObjectStore, queue};
use sqlx::PgPool;

use super::{claim_pause::ClaimPause, decode::DecodeLimits};
use crate::{drain::Drain, held_jobs::HeldJobs, models::Models};

/// What every stage of the pipeline may need.
#[derive(Debug)]
pub(super) struct StageContext {
    pub db: PgPool,
    /// Connections with prepared statements, for the statements of every job.
    pub kept: Kept,
    pub notifier: queue::Notifier,
    pub store: ObjectStore,
    pub models: Models,
    pub held_jobs: Arc<HeldJobs>,
    pub drain: Drain,
    pub claim_pause: ClaimPause,
    pub limits: DecodeLimits,
    pub image_bytes_max: u64,
}
