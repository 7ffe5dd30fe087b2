use std::sync::Arc;

use jobs::{
    object_store::ObjectStore,
    queue::{ChangedListener, Enqueuer, Notifier},
};
use sqlx::PgPool;

use crate::{Config, auth::Keyring, pace::Pace, quota::Quotas};

/// What every handler may reach: shared by all threads of the process.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    pub config: Arc<Config>,
    pub db: PgPool,
    pub store: ObjectStore,
    pub enqueuer: Enqueuer,
    pub notifier: Notifier,
    pub changes: ChangedListener,
    pub keyring: Arc<Keyring>,
    pub quotas: Arc<Quotas>,
    pub pace: Arc<Pace>,
}
