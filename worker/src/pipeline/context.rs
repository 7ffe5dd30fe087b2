//! What every stage of the pipeline may need.

use std::sync::Arc;

use jobs::{
    db::{Db, StatementPool},
    object_store::ObjectStore,
    queue,
};

use super::{claim_pause::ClaimPause, decode_budget::DecodeBudget, store_faults::StoreFaults};
use crate::{drain::Drain, held_jobs::HeldJobs, models::Models};

/// What every stage of the pipeline may need.
#[derive(Debug)]
pub(super) struct StageContext {
    pub db: Db,
    /// Connections with prepared statements, for the statements of every job.
    pub statements: StatementPool,
    pub notifier: queue::Notifier,
    pub store: ObjectStore,
    pub models: Models,
    pub held_jobs: Arc<HeldJobs>,
    pub drain: Drain,
    pub claim_pause: ClaimPause,
    pub store_faults: StoreFaults,
    pub limits: decode::Limits,
    /// The memory that all decodes share.
    pub decode_budget: DecodeBudget,
    pub image_bytes_max: u64,
}
