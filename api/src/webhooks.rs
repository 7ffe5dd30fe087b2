//! Sends webhooks: claims due deliveries, at most a fixed number at a time, and records the outcome of each attempt.
//!
//! Every API process sends. Leases of deliveries divide the work between the processes. A claim takes deliveries in turn between
//! owners and hosts, with a limit for each: a host that never answers holds its sends for the whole timeout.

mod schedule;
mod send;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jobs::{
    db::{Db, StatementPool, answered},
    webhooks::{
        ClaimLimits, Delivery, DeliveryOutcome, Destination, ScanPosition, claim, disable_endpoint,
        settle,
    },
};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::send::{SendResult, Sender};
use crate::{config::WebhookConfig, egress::Egress};

/// How often to claim, even if no job changes: deliveries to try again are due by time.
const CLAIM_EVERY: Duration = Duration::from_secs(1);
/// Least time between two claims.
const PAUSE: Duration = Duration::from_millis(100);
/// Least time between two claims while nothing is being sent: most jobs have no receiver, and a claim finds nothing.
const PAUSE_IDLE: Duration = Duration::from_millis(250);
/// The lease of a delivery is longer than its attempt by this much.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Sends webhooks until the shutdown. Then ends after the last attempt that has begun.
///
/// `changes` wakes the sender after a job changed: the change may have a receiver. Ends early if the sender of `changes` is gone.
pub(crate) async fn send_until_shutdown(
    statements: StatementPool,
    egress: Egress,
    config: WebhookConfig,
    changes: watch::Receiver<()>,
    shutdown: CancellationToken,
) {
    let timeout = Duration::from_millis(config.webhook_timeout_ms);
    let db = statements.db().clone();
    let dispatcher = Dispatcher {
        sends_max: config.webhook_sends_max.into(),
        per_owner_max: config.webhook_sends_per_owner_max.into(),
        per_host_max: config.webhook_sends_per_host_max.into(),
        lease: timeout + LEASE_MARGIN,
        sender: Arc::new(Sender::new(db.clone(), egress, timeout)),
        db,
        statements,
        sends: JoinSet::new(),
        destinations: HashMap::new(),
        scan: ScanPosition::default(),
    };
    dispatcher.run(changes, shutdown).await;
}

struct Dispatcher {
    db: Db,
    statements: StatementPool,
    sends_max: usize,
    per_owner_max: i32,
    per_host_max: i32,
    lease: Duration,
    sender: Arc<Sender>,
    sends: JoinSet<()>,
    /// The owner and the host of each task in `sends`.
    destinations: HashMap<Id, Destination>,
    scan: ScanPosition,
}

impl Dispatcher {
    async fn run(mut self, mut changes: watch::Receiver<()>, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            if let Err(error) = self.start_due_deliveries().await {
                tracing::warn!(error.cause = %error, "cannot claim webhook deliveries; trying again");
            }
            let pause = if self.sends.is_empty() {
                PAUSE_IDLE
            } else {
                PAUSE
            };
            sleep(pause).await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                still_open = changes.changed() => if still_open.is_err() {
                    tracing::error!("the listener for changed jobs has ended");
                    break;
                },
                () = sleep(CLAIM_EVERY) => {}
                Some(sent) = self.sends.join_next_with_id() => self.forget(sent),
            }
            while let Some(sent) = self.sends.try_join_next_with_id() {
                self.forget(sent);
            }
            metrics::gauge!("darkroom_webhooks_sending").set(self.destinations.len() as f64);
        }
        // Each attempt ends by its timeout.
        while self.sends.join_next().await.is_some() {}
    }

    fn forget(&mut self, sent: Result<(Id, ()), tokio::task::JoinError>) {
        let id = sent.map_or_else(|error| error.id(), |(id, ())| id);
        self.destinations.remove(&id);
    }

    async fn start_due_deliveries(&mut self) -> Result<(), sqlx::Error> {
        let free = self.sends_max.saturating_sub(self.sends.len());
        if free == 0 {
            return Ok(());
        }
        let mut sending = HashMap::<&Destination, i32>::new();
        for destination in self.destinations.values() {
            *sending.entry(destination).or_default() += 1;
        }
        let limits = ClaimLimits {
            deliveries: free as i64,
            per_owner: self.per_owner_max,
            per_host: self.per_host_max,
            lease_seconds: self.lease.as_secs_f64(),
        };
        let due = self
            .statements
            .run(async |db| claim(db, &limits, &sending, &self.scan).await)
            .await?;
        self.scan = due.next;
        for delivery in due.deliveries {
            let destination = delivery.destination.clone();
            let attempt = attempt(self.db.clone(), self.sender.clone(), delivery);
            self.destinations
                .insert(self.sends.spawn(attempt).id(), destination);
        }
        Ok(())
    }
}

/// Sends a delivery once and records the outcome. If that fails, the delivery is claimed again after its lease.
async fn attempt(db: Db, sender: Arc<Sender>, delivery: Delivery) {
    let sent = match sender.send(&delivery).await {
        Ok(sent) => sent,
        Err(error) => {
            tracing::warn!(error.cause = %error, webhook.id = %delivery.id, "cannot read what to send; the webhook is tried again");
            return;
        }
    };
    let SendResult {
        settled,
        endpoint_is_gone,
    } = sent;
    let outcome = match settled.outcome {
        DeliveryOutcome::Delivered => "delivered",
        DeliveryOutcome::Retry(_) => "retried",
        DeliveryOutcome::Failed => "failed",
    };
    metrics::counter!("darkroom_webhooks_total", "outcome" => outcome).increment(1);
    metrics::histogram!("darkroom_webhook_seconds").record(settled.took.as_secs_f64());
    tracing::info!(
        webhook.id = %delivery.id, webhook.outcome = outcome, http.status = settled.status,
        elapsed_ms = settled.took.as_secs_f64() * 1e3, "webhook"
    );
    let written = answered(&db, settle(&db, &delivery, &settled)).await;
    match written {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(webhook.id = %delivery.id, "an attempt is not recorded: its delivery has changed since");
        }
        Err(error) => {
            tracing::warn!(error.cause = %error, webhook.id = %delivery.id, "cannot record a webhook attempt; the webhook will be sent again");
        }
    }
    if endpoint_is_gone
        && let Some(endpoint) = delivery.endpoint
        && let Err(error) = answered(&db, disable_endpoint(&db, endpoint)).await
    {
        tracing::warn!(error.cause = %error, "cannot disable an endpoint that answered 410");
    }
}
