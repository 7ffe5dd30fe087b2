//! `darkroom-worker`: claims jobs, runs their models and writes the results. Serves nothing but health and metrics.
//!
//! Only the inference stage (`pipeline/infer`) names `tch`; no transaction spans an inference; no write goes unfenced.

pub mod config;
pub mod drain;
pub mod holdings;
pub mod lease;
pub mod models;
pub mod pipeline;
pub mod preemption;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use jobs::{
    db::{self, Db},
    health,
    object_store::ObjectStore,
    queue, tasks, telemetry,
};
use tokio::sync::watch;

use crate::{
    config::{Config, PrecisionChoice},
    drain::{Drain, Phase},
    holdings::Holdings,
    pipeline::{Device, News},
};

/// Works until a signal, a notice of the machine's end, an operator or its own settings end it.
///
/// # Errors
/// The settings are impossible, or this machine cannot work any more.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let metrics = telemetry::start_metrics()?;
    let drain = Drain::new();
    drain::on_signals(drain.clone())?;
    let machine = preemption::watch(&config.preemption, drain.clone());
    let Some(device) = open_device(&config, &drain).await? else {
        return Ok(());
    };
    let db = Db::connect(&config.db, "darkroom-worker")
        .context("DATABASE_URL or DATABASE_DIRECT_URL cannot be read")?;
    let store = ObjectStore::connect(&config.store).await;
    let holdings = Arc::new(Holdings::default());

    health::serve(config.health_listen, metrics, ready(&holdings))
        .await
        .with_context(|| format!("cannot listen on {}", config.health_listen))?;
    if prepare(&config, &db, &store, &drain).await.is_none() {
        return Ok(());
    }
    machine.looked_at().await;
    if !drain.is_working() {
        return Ok(());
    }
    let kept = db::StatementPool::with_one_plan(db.clone());
    let news = News {
        notifier: queue::Notifier::start(kept.clone()),
        listener: queue::WorkerListener::start(db.direct()),
    };
    pipeline::start(
        &config,
        device,
        kept.clone(),
        store,
        news.clone(),
        holdings.clone(),
        drain.clone(),
    )?;
    tasks::restart("queue housekeeping", move || queue::housekeep(kept.clone()));
    tokio::spawn(lease::give_back(
        db.clone(),
        holdings.clone(),
        news.notifier.clone(),
        drain.clone(),
    ));
    let keep_lease = lease::keep(
        db.clone(),
        registration(&config, device),
        config.lease(),
        holdings.clone(),
        drain.clone(),
        news.listener,
    );
    tasks::watch("lease", async move {
        keep_lease.await; // returns only when the worker leaves
        std::future::pending().await
    });

    tokio::select! {
        () = drain.reached(Phase::Finishing) => {}
        ended = tasks::ended() => {
            lease::leave(&db, &holdings, &news.notifier).await;
            return Err(ended.into());
        }
    }
    tokio::select! {
        () = emptied(&holdings) => {}
        () = drain.reached(Phase::Leaving) => {}
        () = drain.time_is_up(Duration::from_secs_f64(config.drain_seconds)) => {
            tracing::warn!(jobs.held = holdings.len(), "drain took too long");
        }
    }
    drain.advance(Phase::Leaving, "nothing left to finish");
    lease::leave(&db, &holdings, &news.notifier).await;
    match drain.trouble() {
        None => Ok(()),
        Some(trouble) => anyhow::bail!("{trouble}"),
    }
}

/// Looking for a GPU may take seconds; `None` if the worker is told to leave before.
async fn open_device(config: &Config, drain: &Drain) -> anyhow::Result<Option<Device>> {
    let choice = config.device;
    let opening = tokio::task::spawn_blocking(move || Device::open(choice));
    tokio::select! {
        device = opening => Ok(Some(device??)),
        () = drain.reached(Phase::Finishing) => Ok(None),
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
async fn prepare(config: &Config, db: &Db, store: &ObjectStore, drain: &Drain) -> Option<()> {
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
            () = drain.reached(Phase::Finishing) => return None,
        };
        tracing::warn!(
            error.cause = format!("{error:#}"),
            "cannot start yet; trying again"
        );
        tokio::select! {
            () = tokio::time::sleep(lease::jitter(pause)) => {}
            () = drain.reached(Phase::Finishing) => return None,
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

/// Returns once no job is in hand, and none can come any more.
async fn emptied(holdings: &Holdings) {
    holdings.claims_settled().await;
    while !holdings.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
