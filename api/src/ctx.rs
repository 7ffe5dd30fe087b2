use std::sync::Arc;

use jobs::{
    db::{Db, StatementPool},
    events::FeedListener,
    images,
    models::Resolver,
    object_store::ObjectStore,
    queue::{ChangedListener, Enqueuer, Finder, Notifier},
};
use tokio::sync::watch;

use crate::{Config, auth::Keyring, outside::Outside, pace::Pace, quota::Quotas};

/// What every handler may reach: shared by all threads of the process.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    pub config: Arc<Config>,
    pub db: Db,
    pub store: ObjectStore,
    /// For the statements that every submit needs.
    pub kept: StatementPool,
    pub enqueuer: Enqueuer,
    pub finder: Finder,
    pub images: images::Finder,
    pub models: Resolver,
    pub notifier: Notifier,
    pub changes: ChangedListener,
    pub feed: FeedListener,
    pub outside: Outside,
    /// Turns true when the process was told to end: no answer is held any longer.
    pub leaving: watch::Receiver<bool>,
    pub keyring: Arc<Keyring>,
    pub quotas: Arc<Quotas>,
    pub pace: Arc<Pace>,
}

impl Ctx {
    /// Returns when the process is about to end.
    pub async fn leaves(&self) {
        let mut leaving = self.leaving.clone();
        // An error: whoever would tell has gone already.
        drop(leaving.wait_for(|leaving| *leaving).await);
    }
}
