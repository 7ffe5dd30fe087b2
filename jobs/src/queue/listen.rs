//! Receives notifications: one connection a process and kind of listener, beside its pool.
//!
//! A lost connection is opened again in the background. Notifications that were sent meanwhile are lost, and every new
//! connection reports that.

use std::{sync::Arc, time::Duration};

use sqlx::{Acquire, postgres::PgListener};
use tokio::time::timeout;

use crate::{
    db::{DirectConnector, Trouble, takes_writes, with_advice},
    tasks,
};

/// A silent connection is pinged after this time: a half-open one never reports its loss.
const PING_AFTER: Duration = Duration::from_secs(15);
/// How long a connection may take to open, or to answer a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before the next attempt to connect.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// What a listener received.
#[derive(Debug, Clone, Copy)]
pub(super) enum Received<'a> {
    Notification {
        channel: &'a str,
        payload: &'a str,
    },
    /// Notifications may have been lost.
    Gap,
}

/// Listens on `channels` in a background task called `task`, for as long as the process lives.
pub(super) fn start_listening(
    task: &'static str,
    db: DirectConnector,
    channels: &'static [&'static str],
    on_received: impl Fn(Received<'_>) + Send + Sync + 'static,
) {
    let on_received = Arc::new(on_received);
    tasks::restart(task, move || {
        let (db, on_received) = (db.clone(), on_received.clone());
        async move {
            loop {
                if let Err(error) = listen_until_lost(&db, channels, &*on_received).await {
                    tracing::warn!(error.cause = %error, ?channels, "LISTEN connection lost; polling until it is back");
                }
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    });
}

async fn listen_until_lost(
    db: &DirectConnector,
    channels: &[&str],
    on_received: &(impl Fn(Received<'_>) + Sync),
) -> Result<(), sqlx::Error> {
    // A new pool each time: to close a half-open connection may take long.
    let pool = db.one_connection(ANSWER_TIMEOUT);
    let listener = PgListener::connect_with(&pool).await;
    let mut listener = listener.map_err(with_advice)?;
    listener.eager_reconnect(false);
    let listening = timeout(
        ANSWER_TIMEOUT,
        listener.listen_all(channels.iter().copied()),
    );
    listening.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    on_received(Received::Gap);
    loop {
        match timeout(PING_AFTER, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => on_received(Received::Notification {
                channel: notification.channel(),
                payload: notification.payload(),
            }),
            Ok(lost) => {
                on_received(Received::Gap);
                return lost.map(drop);
            }
            Err(_) => {
                let ping = async { takes_writes(listener.acquire().await?).await };
                let ping = timeout(ANSWER_TIMEOUT, ping).await;
                // A server without writes sends no notifications of others either.
                if !ping.map_err(|_| sqlx::Error::PoolTimedOut)?? {
                    return Err(sqlx::Error::Configuration(
                        Trouble::ReadOnly.advice().into(),
                    ));
                }
            }
        }
    }
}
