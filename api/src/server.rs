use std::{sync::Arc, time::Duration};

use actix_web::{App, HttpServer, middleware::from_fn, web::Data};
use anyhow::{Context, bail, ensure};
use jobs::{
    batches, db, events::FeedListener, health, images, models::Resolver, object_store::ObjectStore,
    queue, retention, tasks, telemetry,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    Config, auth::Keyring, ctx::Ctx, outside::Outside, pace::Pace, quota::Quotas, request, routes,
    webhooks::Dispatcher,
};

/// Serves until SIGTERM or SIGINT, then lets running requests end.
///
/// # Errors
/// The configuration cannot work, or Postgres or the bucket cannot be prepared.
pub async fn run(config: Config) -> anyhow::Result<()> {
    ensure!(
        !config.insecure_no_auth || config.listen.ip().is_loopback(),
        "--insecure-no-auth is for loopback addresses only, and {} is none",
        config.listen
    );
    let metrics = telemetry::start_metrics()?;
    let (ready, is_ready) = watch::channel(false);
    let health = health::serve(config.metrics_listen, metrics, is_ready);
    health
        .await
        .with_context(|| format!("cannot serve metrics on {}", config.metrics_listen))?;

    let pool = db::Db::connect(&config.db, "darkroom-api")
        .context("DATABASE_URL or DATABASE_DIRECT_URL cannot be read")?;
    db::migrate(&pool, &config.db)
        .await
        .context("the schema could not be brought up to date")?;
    let store = ObjectStore::connect(&config.store).await;
    if config.store.s3_create_bucket
        && let Err(error) = store.create_bucket().await
    {
        bail!(
            "bucket {} could not be made: {error}",
            config.store.s3_bucket
        );
    }
    let kept = db::StatementPool::with_one_plan(pool.clone());
    let by_keys = db::StatementPool::by_keys(pool.clone());
    let statements = kept.clone();
    tasks::restart("queue housekeeping", move || {
        queue::housekeep(statements.clone())
    });
    let (db, batches) = (pool.clone(), config.batches.clone());
    tasks::restart("batch housekeeping", move || {
        batches::housekeep(db.clone(), batches.clone())
    });
    let (db, objects, retained) = (pool.clone(), store.clone(), config.retention.clone());
    tasks::restart("retention", move || {
        retention::keep(db.clone(), objects.clone(), retained.clone())
    });
    let leaving = leaving();
    let connect_timeout = Duration::from_millis(config.webhooks.outside_connect_timeout_ms);
    let outside = Outside::new(config.webhooks.allow_private_addresses, connect_timeout)
        .context("no HTTP client for webhooks")?;
    let changes = queue::ChangedListener::start(pool.clone(), pool.direct());
    let dispatcher = Dispatcher::start(
        pool.clone(),
        outside.clone(),
        &config.webhooks,
        changes.any(),
        leaving.clone(),
    );
    let pace = Arc::new(Pace::new(pool.clone()));
    let ctx = Ctx {
        enqueuer: queue::Enqueuer::start(kept.clone(), &config.queue),
        finder: queue::Finder::start(by_keys.clone()),
        images: images::Finder::start(by_keys),
        models: Resolver::start(kept.clone()),
        notifier: queue::Notifier::start(kept.clone()),
        feed: FeedListener::start(pool.clone(), changes.any()),
        changes,
        kept,
        outside: outside.clone(),
        leaving: leaving.clone(),
        keyring: Arc::new(Keyring::new(config.keys.clone())),
        quotas: Arc::new(Quotas::new(pool.clone(), pace.clone())),
        pace,
        db: pool,
        store,
        config: Arc::new(config.clone()),
    };
    let ctx = Data::new(ctx);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(ctx.clone())
            .wrap(from_fn(request::wrap))
            .configure(routes::register)
    });
    let server = match config.http_threads {
        0 => server,
        threads => server.workers(threads),
    };
    let server = server
        .max_connections(config.connections_max)
        .client_request_timeout(Duration::from_secs(10))
        .keep_alive(Duration::from_secs(75))
        .shutdown_timeout(config.shutdown_seconds)
        .bind(config.listen)
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let listen = server.addrs().first().copied().unwrap_or(config.listen);
    tracing::info!(%listen, "ready");
    ready.send_replace(true);
    tokio::select! {
        served = server.run() => served?,
        ended = tasks::ended() => return Err(ended.into()),
    }
    dispatcher.ended().await;
    tracing::info!("stopped");
    Ok(())
}

/// Turns true at SIGTERM or SIGINT; actix hears them too, and stops to accept.
fn leaving() -> watch::Receiver<bool> {
    let (told, leaving) = watch::channel(false);
    tokio::spawn(async move {
        let (Ok(mut term), Ok(mut int)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            tracing::warn!("no signals are heard: answers that are held delay the end");
            return std::future::pending::<()>().await;
        };
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
        told.send_replace(true);
        // Kept, so that whoever listens later hears it too.
        std::future::pending::<()>().await;
    });
    leaving
}
