use std::sync::Arc;

use jobs::{
    batches::BatchFinder,
    db::{Db, Reads, StatementPool},
    events::FeedListener,
    images,
    models::Resolver,
    object_store::ObjectStore,
    queue::{ChangedListener, Enqueuer, JobLoader, Notifier},
};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    background::Background,
    bucket_watch::BucketWatch,
    egress::Egress,
    http::body_budget::BodyBudget,
    limits::{keyring::Keyring, quotas::Quotas, readiness::Readiness, retry_after::RetryAfter},
};

/// What every handler can use. All threads of the process share it.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    pub config: Arc<Config>,
    /// The runtime of the process. Each HTTP thread has one of its own, which may end before the others.
    pub runtime: Handle,
    pub db: Db,
    /// Connections of their own for reads that look at many rows.
    pub reads: Reads,
    pub batches: BatchFinder,
    pub store: ObjectStore,
    pub bucket: BucketWatch,
    /// Connections with the prepared statements that every submit needs.
    pub statements: StatementPool,
    pub enqueuer: Enqueuer,
    pub jobs: JobLoader,
    pub images: images::ImageLoader,
    pub models: Resolver,
    pub notifier: Notifier,
    pub changes: ChangedListener,
    pub feed: FeedListener,
    pub egress: Egress,
    pub background: Background,
    pub keyring: Arc<Keyring>,
    pub quotas: Arc<Quotas>,
    pub body_budget: Arc<BodyBudget>,
    pub retry_after: Arc<RetryAfter>,
    /// A permit for each object that may be read at the same time to check its digest.
    pub object_checks: Arc<Semaphore>,
    pub readiness: Readiness,
}

impl Ctx {
    /// The shutdown signal: no answer is held after it.
    pub fn shutdown(&self) -> &CancellationToken {
        self.background.shutdown()
    }
}
