use std::sync::Arc;

use jobs::{
    db::{Db, StatementPool},
    events::FeedListener,
    images,
    models::Resolver,
    object_store::ObjectStore,
    queue::{ChangedListener, Enqueuer, JobLoader, Notifier},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    background::Background,
    egress::Egress,
    limits::{keyring::Keyring, quotas::Quotas, readiness::Readiness, retry_after::RetryAfter},
};

/// What every handler can use. All threads of the process share it.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    pub config: Arc<Config>,
    pub db: Db,
    pub store: ObjectStore,
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
    pub retry_after: Arc<RetryAfter>,
    pub readiness: Readiness,
}

impl Ctx {
    /// The shutdown signal: no answer is held after it.
    pub fn shutdown(&self) -> &CancellationToken {
        self.background.shutdown()
    }
}
