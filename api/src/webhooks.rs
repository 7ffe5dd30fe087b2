//! Sends webhooks: claims what is due, a bounded number at a time, and says what came of it. Every API process does; they
//! share the work through leases.

mod schedule;
mod send;

use std::{collections::HashMap, sync::Arc, time::Duration};

use clap::Args;
use jobs::{
    db::{Db, answered},
    webhooks::{Delivery, DeliveryOutcome, HostLoad, claim, disable_endpoint, settle},
};
use tokio::{
    sync::watch,
    task::{Id, JoinHandle, JoinSet},
    time::sleep,
};

use self::send::{Sender, Sent};
use crate::outside::Outside;

/// How webhooks are sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookConfig {
    /// Let webhooks and image URLs lead to private addresses, by http and any port: for tests only
    #[arg(long, env = "DARKROOM_ALLOW_PRIVATE_ADDRESSES")]
    pub allow_private_addresses: bool,
    /// Most webhooks that this process sends at once
    #[arg(long, env = "DARKROOM_WEBHOOK_SENDS_MAX", default_value_t = 32)]
    pub webhook_sends_max: u16,
    /// Most of them to one host
    #[arg(long, env = "DARKROOM_WEBHOOK_SENDS_PER_HOST_MAX", default_value_t = 8)]
    pub webhook_sends_per_host_max: u16,
    /// Longest time until a receiver takes a connection, of webhooks and image URLs, in milliseconds
    #[arg(
        long,
        env = "DARKROOM_OUTSIDE_CONNECT_TIMEOUT_MS",
        default_value_t = 5_000
    )]
    pub outside_connect_timeout_ms: u64,
    /// Longest time until a receiver has answered, in milliseconds
    #[arg(long, env = "DARKROOM_WEBHOOK_TIMEOUT_MS", default_value_t = 10_000)]
    pub webhook_timeout_ms: u64,
    /// Most webhook endpoints of one owner
    #[arg(long, env = "DARKROOM_WEBHOOK_ENDPOINTS_MAX", default_value_t = 20)]
    pub webhook_endpoints_max: u16,
}

/// How often to look for what is due to be sent again.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Least time between two looks.
const COALESCE: Duration = Duration::from_millis(100);
/// The same after one that found nothing: in a stream of jobs that nobody is told of, each look is for nothing.
const COALESCE_IDLE: Duration = Duration::from_millis(250);
/// How much longer than an attempt can take the lease of its delivery is.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// The sending side of webhooks, for as long as the process lives.
#[derive(Debug)]
pub(crate) struct Dispatcher(JoinHandle<()>);

impl Dispatcher {
    /// `changes` says that some job of anybody changed: perhaps there is something to tell.
    pub fn start(
        db: Db,
        outside: Outside,
        config: &WebhookConfig,
        changes: watch::Receiver<()>,
        leaving: watch::Receiver<bool>,
    ) -> Self {
        let timeout = Duration::from_millis(config.webhook_timeout_ms);
        let dispatch = Dispatch {
            sends_max: config.webhook_sends_max.into(),
            per_host_max: config.webhook_sends_per_host_max.into(),
            lease: timeout + LEASE_MARGIN,
            sender: Arc::new(Sender::new(db.clone(), outside, timeout)),
            db,
            sends: JoinSet::new(),
            hosts: HashMap::new(),
        };
        Self(tokio::spawn(dispatch.run(changes, leaving)))
    }

    /// After the process was told to leave: returns when the last attempt that had begun has ended.
    pub async fn ended(self) {
        drop(self.0.await);
    }
}

struct Dispatch {
    db: Db,
    sends_max: usize,
    per_host_max: i32,
    lease: Duration,
    sender: Arc<Sender>,
    sends: JoinSet<()>,
    /// Where each of them goes.
    hosts: HashMap<Id, String>,
}

impl Dispatch {
    async fn run(mut self, mut changes: watch::Receiver<()>, mut leaving: watch::Receiver<bool>) {
        while !*leaving.borrow() {
            if let Err(error) = self.begin_what_is_due().await {
                tracing::warn!(error.cause = %error, "cannot look for webhooks to send; trying again");
            }
            let nothing_to_send = self.sends.is_empty();
            let pause = if nothing_to_send {
                COALESCE_IDLE
            } else {
                COALESCE
            };
            sleep(pause).await;
            tokio::select! {
                _ = leaving.changed() => {}
                _ = changes.changed() => {}
                () = sleep(LOOKS_EVERY) => {}
                Some(sent) = self.sends.join_next_with_id() => self.forget(sent),
            }
            while let Some(sent) = self.sends.try_join_next_with_id() {
                self.forget(sent);
            }
            metrics::gauge!("darkroom_webhooks_sending").set(self.hosts.len() as f64);
        }
        // Bounded by their time-out.
        while self.sends.join_next().await.is_some() {}
    }

    fn forget(&mut self, sent: Result<(Id, ()), tokio::task::JoinError>) {
        let id = sent.map_or_else(|error| error.id(), |(id, ())| id);
        self.hosts.remove(&id);
    }

    async fn begin_what_is_due(&mut self) -> Result<(), sqlx::Error> {
        let free = self.sends_max.saturating_sub(self.sends.len());
        if free == 0 {
            return Ok(());
        }
        let mut sends = HashMap::<&String, i32>::new();
        for host in self.hosts.values() {
            *sends.entry(host).or_default() += 1;
        }
        let busy: Vec<_> = sends
            .into_iter()
            .map(|(host, sends)| HostLoad {
                host: host.clone(),
                sends,
            })
            .collect();
        let lease_seconds = self.lease.as_secs_f64();
        let due = claim(
            &self.db,
            free as i64,
            self.per_host_max,
            &busy,
            lease_seconds,
        );
        for delivery in answered(&self.db, due).await? {
            let host = delivery.host.clone();
            let attempt = attempt(self.db.clone(), self.sender.clone(), delivery);
            self.hosts.insert(self.sends.spawn(attempt).id(), host);
        }
        Ok(())
    }
}

/// Sends a delivery once, and writes down what came of it. Whatever keeps it from that leaves the delivery to the next one
/// who looks, after the lease.
async fn attempt(db: Db, sender: Arc<Sender>, delivery: Delivery) {
    let sent = match sender.send(&delivery).await {
        Ok(sent) => sent,
        Err(error) => {
            tracing::warn!(error.cause = %error, webhook.id = %delivery.id, "webhook not sent; trying again");
            return;
        }
    };
    let Sent { settled, is_gone } = sent;
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
        Ok(false) => tracing::info!(webhook.id = %delivery.id, "somebody else had a say meanwhile"),
        Err(error) => {
            tracing::warn!(error.cause = %error, webhook.id = %delivery.id, "what came of a webhook is not written down; it will be sent again");
        }
    }
    if is_gone
        && let Some(endpoint) = delivery.endpoint
        && let Err(error) = answered(&db, disable_endpoint(&db, endpoint)).await
    {
        tracing::warn!(error.cause = %error, "an endpoint that is gone could not be disabled");
    }
}
