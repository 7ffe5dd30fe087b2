//! `darkroom-worker`: claims jobs, runs their models and writes the results. It serves only health and metrics.
//!
//! From the bottom up: [`torch`] is all that names `tch`; [`models`] stands on it; [`pipeline`] stands on both. No transaction
//! spans an inference, and every write is fenced.

pub mod background;
pub mod backoff;
mod bucket_watch;
pub mod config;
pub mod drain;
pub mod held_jobs;
pub mod lease;
pub mod models;
mod panic_message;
pub mod pipeline;
pub mod preemption;
mod shutdown_signals;
pub mod torch;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use jobs::{
    bucket::BucketState,
    db,
    health::{self, Readiness},
    object_store::ObjectStore,
    queue, tasks, telemetry,
};
use tokio::sync::watch;

use crate::{
    backoff::Backoff,
    bucket_watch::BucketWatch,
    config::Config,
    drain::{Drain, Phase},
    held_jobs::HeldJobs,
    pipeline::WakeUps,
    torch::{Device, PrecisionChoice},
};

/// Runs the worker until a signal, a notice of the cloud, an operator or its settings end it.
///
/// # Errors
/// The settings cannot work, or the worker failed at work (see [`Drain::fail`]).
pub async fn run(config: Config) -> anyhow::Result<()> {
    decode::preload(&config.limits.formats).context("not all of --formats can be decoded")?;
    let metrics = telemetry::start_metrics()?;
    let drain = Drain::new();
    shutdown_signals::listen(&drain)?;
    let first_poll = preemption::watch(&config.preemption, &drain);
    let Some(device) = open_device(&config, &drain).await? else {
        return ended(&drain);
    };
    let db = db::Db::connect(&config.db, "darkroom-worker")
        .context("DATABASE_URL or DATABASE_DIRECT_URL cannot be read")?;
    let store = ObjectStore::connect(&config.store).await?;
    let held_jobs = Arc::new(HeldJobs::default());
    let bucket = BucketWatch::new(config.worker_name(), db.clone(), store.clone());

    let (readiness, is_ready) = watch::channel(Err("the worker is starting".to_owned()));
    watch_readiness(&held_jobs, bucket.state(), readiness.clone(), &drain);
    health::serve(config.health_listen, config.health, metrics, is_ready)
        .await
        .with_context(|| format!("cannot listen on {}", config.health_listen))?;
    if prepare(&config, &db, &store, &bucket, &readiness, &drain)
        .await
        .is_none()
    {
        return ended(&drain);
    }
    background::spawn(&drain, "bucket check", bucket.keep_checking());
    first_poll.wait().await;
    if !drain.is_working() {
        return ended(&drain);
    }
    let statements = db::StatementPool::with_one_plan(db.clone());
    let wake_ups = WakeUps {
        notifier: queue::Notifier::start(statements.clone()),
        listener: queue::WorkerListener::start(db.direct()),
    };
    pipeline::start(
        &config,
        device,
        statements.clone(),
        store,
        wake_ups.clone(),
        held_jobs.clone(),
        &drain,
    )?;
    tasks::restart("queue housekeeping", move || {
        queue::housekeep(statements.clone())
    });
    let watched = drain.clone();
    background::spawn(&drain, "watch over background tasks", async move {
        watched.fail(&tasks::ended().await.to_string());
    });
    background::spawn(
        &drain,
        "release of returned jobs",
        lease::release_returned_jobs(
            db.clone(),
            held_jobs.clone(),
            wake_ups.notifier.clone(),
            drain.clone(),
        ),
    );
    background::spawn(
        &drain,
        "lease",
        lease::keep_lease(
            db.clone(),
            registration(&config, device),
            config.lease(),
            held_jobs.clone(),
            drain.clone(),
            wake_ups.listener,
        ),
    );

    drain.reached(Phase::Finishing).await;
    tokio::select! {
        () = wait_until_idle(&held_jobs) => {}
        () = drain.reached(Phase::Leaving) => {}
        () = drain.time_is_up(Duration::from_secs_f64(config.drain_seconds)) => {
            tracing::warn!(jobs.held = held_jobs.len(), "the drain took too long");
        }
    }
    drain.advance(Phase::Leaving, "nothing left to finish");
    lease::deregister(&db, &held_jobs, &wake_ups.notifier).await;
    ended(&drain)
}

/// The result of a worker that has ended: an error if it failed.
fn ended(drain: &Drain) -> anyhow::Result<()> {
    match drain.failure() {
        None => Ok(()),
        Some(reason) => anyhow::bail!("{reason}"),
    }
}

/// Opens the device, which may take seconds. Returns `None` if the worker drains first.
async fn open_device(config: &Config, drain: &Drain) -> anyhow::Result<Option<Device>> {
    let choice = config.device;
    let opening = tokio::task::spawn_blocking(move || Device::open(choice));
    tokio::select! {
        device = opening => Ok(Some(device??)),
        () = drain.reached(Phase::Finishing) => Ok(None),
    }
}

/// Keeps `readiness` up to date: a ready worker has the bucket of the API, is registered and gets jobs.
fn watch_readiness(
    held_jobs: &HeldJobs,
    mut bucket: watch::Receiver<BucketState>,
    readiness: watch::Sender<Readiness>,
    drain: &Drain,
) {
    let mut worker = held_jobs.worker();
    background::spawn(drain, "readiness", async move {
        loop {
            let changed = tokio::select! {
                changed = worker.changed() => changed,
                changed = bucket.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            let registered = worker.borrow_and_update().map(drop);
            let now = match &*bucket.borrow_and_update() {
                BucketState::Refused(why) => Err(why.clone()),
                // Passes: the claimer pauses meanwhile.
                BucketState::Away(_) | BucketState::Usable => {
                    registered.ok_or_else(|| "the worker has no lease".to_owned())
                }
            };
            drop(readiness.send_replace(now));
        }
    });
}

/// Migrates the database and creates the bucket; tries again until it works. A bucket that refuses this worker, or is not the one
/// of the API, is an error too: the worker could run no job. Returns `None` if the worker drains first.
async fn prepare(
    config: &Config,
    db: &db::Db,
    store: &ObjectStore,
    bucket: &BucketWatch,
    readiness: &watch::Sender<Readiness>,
    drain: &Drain,
) -> Option<()> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let prepared = async {
            db::migrate(db, &config.db).await?;
            db::adopt_if_moved(db).await;
            if config.store.s3_create_bucket
                && let Err(error) = store.create_bucket().await
            {
                let text = error.to_string();
                bucket.note(&error.into());
                anyhow::bail!(text);
            }
            match bucket.check().await? {
                BucketState::Refused(why) => Err(anyhow::Error::msg(why)),
                // A bucket that is away delays the jobs. The claimer pauses until the bucket answers.
                BucketState::Away(_) | BucketState::Usable => anyhow::Ok(()),
            }
        };
        let error = tokio::select! {
            prepared = prepared => match prepared {
                Ok(()) => return Some(()),
                Err(error) => error,
            },
            () = drain.reached(Phase::Finishing) => return None,
        };
        let advice = db::advice(&*error);
        tracing::warn!(
            error.cause = format!("{error:#}"),
            error.advice = advice,
            "cannot prepare Postgres and S3; trying again"
        );
        if let Some(advice) = advice {
            drop(readiness.send_replace(Err(advice.to_owned())));
        }
        tokio::select! {
            () = backoff.sleep() => {}
            () = drain.reached(Phase::Finishing) => return None,
        }
    }
}

fn registration(config: &Config, device: Device) -> queue::Registration {
    // Jobs store this text. A precision that is not the default of the model changes their numbers.
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

/// Returns when the worker holds no job and no claim is running.
async fn wait_until_idle(held_jobs: &HeldJobs) {
    held_jobs.wait_for_claims().await;
    while !held_jobs.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
