//! `darkroom-worker`: claims jobs, runs their models and writes the results. Serves nothing but health and metrics.
//!
//! Only the inference stage (`pipeline/infer`) names `tch`; no transaction spans an inference; no write goes unfenced.

pub mod config;
pub mod drain;
pub mod lease;
pub mod models;
pub mod pipeline;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use jobs::{db, health, object_store::ObjectStore, queue, telemetry};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::{
    config::{Config, PrecisionChoice},
    drain::{Drain, Phase},
    lease::Holdings,
    pipeline::Device,
};

/// Works until a signal, an operator or idleness ends it.
///
/// # Errors
/// The settings are impossible, or this machine cannot work any more.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let metrics = telemetry::start_metrics()?;
    let drain = Drain::new();
    drain::on_signals(drain.clone())?;
    let choice = config.device;
    let device = tokio::task::spawn_blocking(move || Device::open(choice)).await??;
    let db = db::connect(&config.db, "darkroom-worker").context("DATABASE_URL")?;
    let store = ObjectStore::connect(&config.store).await;
    let holdings = Arc::new(Holdings::default());

    health::serve(config.health_listen, metrics, ready(&holdings))
        .await
        .with_context(|| format!("cannot listen on {}", config.health_listen))?;
    if prepare(&config, &db, &store, &drain).await.is_none() {
        return Ok(());
    }
    pipeline::start(
        &config,
        device,
        db.clone(),
        store,
        holdings.clone(),
        drain.clone(),
    )?;
    tokio::spawn(queue::housekeep(db.clone()));
    let keeping = lease::keep(
        db.clone(),
        registration(&config, device),
        config.lease(),
        holdings.clone(),
        drain.clone(),
    );
    tokio::spawn(keeping);

    drain.reached(Phase::Draining).await;
    let longest = Duration::from_secs_f64(config.drain_seconds);
    tokio::select! {
        () = emptied(&holdings) => {}
        () = drain.reached(Phase::Leaving) => {}
        () = tokio::time::sleep(longest) => tracing::warn!(jobs.held = holdings.len(), "drain took too long"),
    }
    drain.advance(Phase::Leaving, "nothing left to finish");
    lease::leave(&db, &holdings).await;
    match drain.trouble() {
        None => Ok(()),
        Some(trouble) => anyhow::bail!("{trouble}"),
    }
}

/// Ready means registered: jobs may come.
fn ready(holdings: &Holdings) -> watch::Receiver<bool> {
    let mut worker = holdings.worker();
    let (sender, ready) = watch::channel(false);
    tokio::spawn(async move {
        while worker.changed().await.is_ok() {
            sender.send_replace(worker.borrow_and_update().is_some());
        }
    });
    ready
}

/// Migrations and the bucket, however long Postgres and S3 are away; `None` if the worker is told to leave before.
async fn prepare(config: &Config, db: &PgPool, store: &ObjectStore, drain: &Drain) -> Option<()> {
    let mut pause = Duration::from_millis(100);
    loop {
        let prepared = async {
            db::migrate(db, &config.db).await?;
            if config.store.s3_create_bucket {
                store.create_bucket().await?;
            }
            anyhow::Ok(())
        };
        let error = tokio::select! {
            prepared = prepared => match prepared {
                Ok(()) => return Some(()),
                Err(error) => error,
            },
            () = drain.reached(Phase::Draining) => return None,
        };
        tracing::warn!(
            error.cause = format!("{error:#}"),
            "cannot start yet; trying again"
        );
        tokio::select! {
            () = tokio::time::sleep(lease::jitter(pause)) => {}
            () = drain.reached(Phase::Draining) => return None,
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

fn registration(config: &Config, device: Device) -> queue::Registration {
    // Where a job's numbers came from: what differs from a model's default must be told.
    let precision = match (config.precision, config.precision.fixed()) {
        (PrecisionChoice::Default, _) => String::new(),
        (_, Some(precision)) => format!(" {precision}"),
        (_, None) => " auto".into(),
    };
    queue::Registration {
        name: config.worker_name(),
        device: format!("{device}{precision}"),
        build: env!("CARGO_PKG_VERSION").into(),
        models: config.models.clone(),
    }
}

async fn emptied(holdings: &Holdings) {
    while !holdings.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
