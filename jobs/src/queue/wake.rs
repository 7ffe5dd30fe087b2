//! Wake-ups: after the commit, coalesced, never inside the enqueue (a NOTIFY there takes a database-wide lock at commit).
//!
//! They only save latency: a worker polls slowly all the same, since a notification may be lost.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;

/// Payload: the row id of the model that has news.
pub const QUEUED_CHANNEL: &str = "darkroom_queued";

/// Least time between two notifications of one process.
const COALESCE: Duration = Duration::from_millis(2);

/// Tells workers that jobs of a model were queued.
#[derive(Debug, Clone)]
pub(super) struct QueuedNotifier {
    news: Arc<Notify>,
    models: Arc<Mutex<BTreeSet<i64>>>,
}

impl QueuedNotifier {
    pub(super) fn start(db: PgPool) -> Self {
        let this = Self {
            news: Arc::default(),
            models: Arc::default(),
        };
        let Self { news, models } = this.clone();
        tokio::spawn(async move {
            loop {
                news.notified().await;
                let ids = std::mem::take(&mut *models.lock().expect("no panic holds it"));
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let sent = sqlx::query!(
                    "select pg_notify('darkroom_queued', model_id) from unnest($1::text[]) as model_id",
                    &ids
                );
                if let Err(error) = sent.execute(&db).await {
                    tracing::debug!(error.cause = %error, "wake-up not sent; workers poll");
                }
                tokio::time::sleep(COALESCE).await;
            }
        });
        this
    }

    pub(super) fn queued(&self, model_id: i64) {
        self.models
            .lock()
            .expect("no panic holds it")
            .insert(model_id);
        self.news.notify_one();
    }
}

/// Hears of queued jobs on a connection of its own.
///
/// A lost connection is opened again in the background; every re-connect counts as news, because what was sent in
/// between is gone.
#[derive(Debug)]
pub struct QueuedListener(Arc<Notify>);

impl QueuedListener {
    pub fn start(db: PgPool) -> Self {
        let news = Arc::new(Notify::new());
        let wake = news.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&db, &wake).await {
                    tracing::warn!(error.cause = %error, "LISTEN connection lost; polling until it is back");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self(news)
    }

    /// Returns once something was queued since the last call, or after `longest`.
    pub async fn wait(&self, longest: Duration) {
        drop(tokio::time::timeout(longest, self.0.notified()).await);
    }
}

async fn listen(db: &PgPool, wake: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(db).await?;
    listener.listen(QUEUED_CHANNEL).await?;
    wake.notify_one();
    // `None` says that the connection was lost and opened again: sweep.
    while let Some(_news) = listener.try_recv().await? {
        wake.notify_one();
    }
    wake.notify_one();
    Ok(())
}
