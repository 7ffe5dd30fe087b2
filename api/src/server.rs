//! Starts the process: connections, background tasks, HTTP server; and stops it.

use std::{sync::Arc, time::Duration};

use actix_web::{App, middleware::from_fn, web, web::Data};
use anyhow::{Context, bail, ensure};
use jobs::{
    batches, bucket::BucketState, db, events::FeedListener, health, images, models::Resolver,
    object_store::ObjectStore, queue, retention, tasks, telemetry,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    Config,
    background::Background,
    bucket_watch::BucketWatch,
    ctx::Ctx,
    egress::Egress,
    http::{body_budget::BodyBudget, listen::listen, request},
    limits::{
        access_log::AccessLog, keyring::Keyring, quotas::Quotas, readiness::Readiness,
        retry_after::RetryAfter,
    },
    openapi::ApiDocument,
    routes, webhooks,
};

/// How long the start waits for the first check of the bucket. `/readyz` answers 503 until a check succeeds.
const FIRST_CHECK_MAX: Duration = Duration::from_secs(3);

/// Serves until SIGTERM or SIGINT, then lets running requests end.
///
/// # Errors
/// The configuration cannot work, Postgres or the bucket cannot be prepared, or a background task failed.
pub async fn run(config: Config) -> anyhow::Result<()> {
    ensure!(
        !config.insecure_no_auth || config.listen.ip().is_loopback(),
        "--insecure-no-auth is for loopback addresses only, and {} is none",
        config.listen
    );
    let metrics = telemetry::start_metrics()?;
    let (ready, is_ready) = watch::channel(Err("the service is starting".to_owned()));
    let health = health::serve(config.metrics_listen, config.health, metrics, is_ready);
    health
        .await
        .with_context(|| format!("cannot serve metrics on {}", config.metrics_listen))?;

    let background = Background::start();
    let ctx = Box::pin(start(&config, &background)).await?;
    let bucket = ctx.bucket.state();
    let (keyring, ctx) = (Data::from(ctx.keyring.clone()), Data::new(ctx));
    let document = Data::new(ApiDocument::new(routes::openapi()));
    let app = move || {
        App::new()
            .app_data(ctx.clone())
            .app_data(keyring.clone())
            .app_data(document.clone())
            .wrap(from_fn(request::wrap))
            .configure(|config| routes::configure(&mut ServiceConfig::new(config)))
            .default_service(web::to(routes::unknown))
    };
    let (listen, server) =
        listen(&config, app).with_context(|| format!("cannot listen on {}", config.listen))?;
    tracing::info!(%listen, "ready");
    background.spawn("readiness", follow_bucket(bucket, ready.clone()));
    let stop_on_failure = {
        let (handle, background) = (server.handle(), background.clone());
        async move {
            background.shutdown().cancelled().await;
            if background.failure().is_some() {
                drop(ready.send_replace(Err("a background task failed".to_owned())));
                handle.stop(true).await;
            }
            // Signals stop the server without this task.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = server => result?,
        () = stop_on_failure => {}
    }
    background.shutdown().cancel();
    background.finished().await;
    if let Some(task) = background.failure() {
        bail!("the background task `{task}` failed");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Keeps `ready` as the bucket is: the process serves, and can accept images while the bucket takes them.
async fn follow_bucket(
    mut bucket: watch::Receiver<BucketState>,
    ready: watch::Sender<health::Readiness>,
) {
    loop {
        let fault = bucket.borrow_and_update().fault().map(str::to_owned);
        drop(ready.send_replace(fault.map_or(Ok(()), Err)));
        if bucket.changed().await.is_err() {
            // The watch is gone: only at the end of the process.
            return std::future::pending().await;
        }
    }
}

/// Connects to Postgres and the bucket, and starts the background tasks.
async fn start(config: &Config, background: &Background) -> anyhow::Result<Ctx> {
    let pool = db::Db::connect(&config.db, "darkroom-api")
        .context("DATABASE_URL or DATABASE_DIRECT_URL cannot be read")?;
    if let Err(error) = db::migrate(&pool, &config.db).await {
        let advice = db::advice(&error);
        let error =
            anyhow::Error::from(error).context("the schema could not be brought up to date");
        return Err(match advice {
            Some(advice) => error.context(advice),
            None => error,
        });
    }
    db::adopt_if_moved(&pool).await;
    let reads = db::Reads::connect(&config.db, &config.reads, "darkroom-api reads")
        .context("DATABASE_URL or DATABASE_DIRECT_URL cannot be read")?;
    let store = ObjectStore::connect(&config.store).await?;
    if config.store.s3_create_bucket
        && let Err(error) = store.create_bucket().await
    {
        bail!(
            "bucket {} could not be made: {error}",
            config.store.s3_bucket
        );
    }
    let bucket = BucketWatch::new(pool.clone(), store.clone(), config.s3_adopt_bucket);
    let first_check = tokio::time::timeout(FIRST_CHECK_MAX, bucket.check());
    if first_check.await.is_err() {
        tracing::error!(place = store.place(), "the bucket does not answer");
    }
    background.spawn("bucket check", bucket.clone().keep_checking());
    let statements = db::StatementPool::with_one_plan(pool.clone());
    let by_keys = db::StatementPool::by_keys(pool.clone());
    let db = statements.clone();
    tasks::restart("queue housekeeping", move || queue::housekeep(db.clone()));
    let (db, batches) = (pool.clone(), config.batches.clone());
    tasks::restart("batch housekeeping", move || {
        batches::housekeep(db.clone(), batches.clone())
    });
    let (db, objects, retained) = (pool.clone(), store.clone(), config.retention.clone());
    tasks::restart("retention", move || {
        retention::keep(db.clone(), objects.clone(), retained.clone())
    });
    // Ends the process when a task of crate `jobs` has ended that cannot begin anew.
    background.spawn("watch over background tasks", async {
        tasks::ended().await;
    });
    let connect_timeout = Duration::from_millis(config.webhooks.outside_connect_timeout_ms);
    let egress = Egress::new(config.webhooks.allow_private_addresses, connect_timeout)
        .context("no HTTP client for webhooks and image URLs")?;
    let changes = queue::ChangedListener::start(pool.clone(), pool.direct());
    let send_webhooks = webhooks::send_until_shutdown(
        statements.clone(),
        egress.clone(),
        config.webhooks.clone(),
        changes.any(),
        background.shutdown().clone(),
    );
    background.spawn_until_done("webhook sender", send_webhooks);
    let retry_after = Arc::new(RetryAfter::new(pool.clone()));
    let access_log = Arc::new(AccessLog::new(pool.clone()));
    let (log, audit) = (access_log.clone(), config.audit.clone());
    let shutdown = background.shutdown().clone();
    background.spawn_until_done("access log", async move {
        log.write_until_shutdown(&audit, &shutdown).await;
    });
    let needs_keys = !config.insecure_no_auth;
    let keyring = Keyring::new(
        pool.clone(),
        config.keys.clone(),
        config.wrong_keys.clone(),
        needs_keys,
        access_log,
    );
    Ok(Ctx {
        runtime: Handle::current(),
        enqueuer: queue::Enqueuer::start(statements.clone(), &config.queue),
        jobs: queue::JobLoader::start(by_keys.clone()),
        images: images::ImageLoader::start(by_keys),
        models: Resolver::start(statements.clone()),
        notifier: queue::Notifier::start(statements.clone()),
        feed: FeedListener::start(pool.clone(), changes.any()),
        changes,
        statements,
        egress,
        background: background.clone(),
        keyring: Arc::new(keyring),
        quotas: Arc::new(Quotas::new(pool.clone(), retry_after.clone())),
        body_budget: Arc::new(BodyBudget::new(&config.limits)),
        retry_after,
        batches: batches::BatchFinder::new(pool.clone(), reads.clone()),
        object_checks: Arc::new(Semaphore::new(config.limits.object_checks_max.into())),
        readiness: Readiness::default(),
        db: pool,
        reads,
        store,
        bucket,
        config: Arc::new(config.clone()),
    })
}
