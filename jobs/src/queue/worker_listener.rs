use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{
    listen::{Received, start_listening},
    notify::{QUEUED_CHANNEL, WORKER_CHANNEL},
};
use crate::{WorkerId, db::DirectConnector, models::TRIALS_CHANNEL};

#[derive(Debug, Default)]
struct Signals {
    queued: Notify,
    requested: Notify,
    trials: Notify,
    /// Row id of the worker whose requests are heard; 0: none yet.
    worker: AtomicI64,
}

/// Wakes a worker when jobs were queued, when a version waits for a trial, and when a request to this worker was made.
#[derive(Debug, Clone)]
pub struct WorkerListener(Arc<Signals>);

impl WorkerListener {
    pub fn start(db: impl Into<DirectConnector>) -> Self {
        let signals: Arc<Signals> = Arc::default();
        let woken = signals.clone();
        let on_received = move |received: Received<'_>| match received {
            Received::Notification {
                channel: QUEUED_CHANNEL,
                ..
            } => woken.queued.notify_one(),
            Received::Notification {
                channel: TRIALS_CHANNEL,
                ..
            } => woken.trials.notify_one(),
            Received::Notification {
                payload: worker, ..
            } => {
                if worker.parse() == Ok(woken.worker.load(Ordering::Acquire)) {
                    woken.requested.notify_one();
                }
            }
            Received::Gap => {
                woken.queued.notify_one();
                woken.requested.notify_one();
                woken.trials.notify_one();
            }
        };
        let channels = &[QUEUED_CHANNEL, WORKER_CHANNEL, TRIALS_CHANNEL];
        start_listening("worker listener", db.into(), channels, on_received);
        Self(signals)
    }

    /// From now on hears the requests to this worker.
    pub fn set_worker(&self, worker: WorkerId) {
        self.0.worker.store(worker.0, Ordering::Release);
    }

    /// Returns once a job was queued since the last call, or after `longest`.
    pub async fn queued(&self, longest: Duration) {
        drop(timeout(longest, self.0.queued.notified()).await);
    }

    /// Returns once a trial or a prefetch was asked for since the last call, or after `longest`.
    pub async fn trials(&self, longest: Duration) {
        drop(timeout(longest, self.0.trials.notified()).await);
    }

    /// Returns once a request to the worker was made since the last call, or after `longest`.
    pub async fn requested(&self, longest: Duration) {
        drop(timeout(longest, self.0.requested.notified()).await);
    }
}
