//! The way of a job through the worker: claim, fetch, decode and preprocess, batch, infer, postprocess,
//! complete; a result that is too large for its row is stored in between.
//!
//! Every job in here holds a place in the `room`, from its claim until its outcome is written. The room is what bounds
//! all queues between the stages, and the claimer claims no more than there is room for.

mod back_off;
mod batch;
mod claim;
mod complete;
pub mod decode;
mod develop;
mod fetch;
mod infer;
mod placement;
pub mod postprocess;
pub mod preprocess;
mod shown;
mod stage;
mod store;
mod work;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use image::ImageFormat;
use jobs::{
    db::{Db, StatementPool},
    object_store::ObjectStore,
    queue,
};
use tokio::sync::{Semaphore, mpsc};

pub use infer::{
    device::{Device, ready_thread},
    program::{ForwardError, Program},
};
pub use placement::{Placement, Region};
pub use stage::{Stage, Timings};
pub use work::{Outcome, Prediction, Work};

use crate::{
    config::Config,
    drain::Drain,
    holdings::Holdings,
    models::{Models, ModelsConfig},
};

/// What every stage may need.
#[derive(Debug)]
pub struct Shared {
    pub db: Db,
    /// For the statements of every job.
    pub kept: StatementPool,
    pub notifier: queue::Notifier,
    pub store: ObjectStore,
    pub models: Models,
    pub holdings: Arc<Holdings>,
    pub drain: Drain,
    pub back_off: back_off::BackOff,
    pub limits: decode::DecodeLimits,
    pub image_bytes_max: u64,
}

/// How wide the stages are, settled for this machine and device.
#[derive(Debug, Clone, Copy)]
pub struct Widths {
    pub batch_max: usize,
    pub batch_wait: Duration,
    pub decode_threads: usize,
    pub infer_threads: usize,
    pub fetch_concurrency: usize,
    /// Most jobs in hand.
    pub room: usize,
    /// So many jobs in hand keep all stages busy for a moment.
    pub enough: usize,
    pub complete_wait: Duration,
    pub poll: Duration,
}

impl Widths {
    pub fn of(config: &Config, device: Device) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let on_gpu = device.is_gpu();
        let tuning = &config.tuning;
        let or = |asked: Option<u16>, default: usize| asked.map_or(default, usize::from);
        let batch_max = or(tuning.batch_max, if on_gpu { 64 } else { 8 });
        let infer_threads = or(tuning.infer_threads, if on_gpu { 2 } else { cores });
        let batch_wait_ms = tuning.batch_wait_ms.unwrap_or(if on_gpu { 2 } else { 0 });
        let room = or(tuning.claim_ahead, 4 * batch_max * infer_threads);
        Self {
            batch_max,
            batch_wait: Duration::from_millis(batch_wait_ms),
            decode_threads: or(tuning.decode_threads, cores),
            infer_threads,
            fetch_concurrency: tuning.fetch_concurrency.into(),
            room,
            enough: room / 8,
            complete_wait: Duration::from_millis(tuning.complete_wait_ms),
            poll: Duration::from_millis(tuning.poll_ms),
        }
    }
}

/// Wake-ups, both ways.
#[derive(Debug, Clone)]
pub struct News {
    pub notifier: queue::Notifier,
    pub listener: queue::WorkerListener,
}

/// Starts all stages; they end with the process. The claimer ends at the drain, and then the rest runs dry.
pub fn start(
    config: &Config,
    device: Device,
    kept: StatementPool,
    store: ObjectStore,
    news: News,
    holdings: Arc<Holdings>,
    drain: Drain,
) -> anyhow::Result<()> {
    let widths = Widths::of(config, device);
    let db = kept.db().clone();
    tracing::info!(?widths, "pipeline");
    let models = Models::new(
        db.clone(),
        store.clone(),
        ModelsConfig {
            cache_dir: config.model_cache_dir(),
            cache_bytes_max: config.model_cache_bytes_max,
            device,
            precision: config.precision,
            batch_max: widths.batch_max,
            infer_threads: widths.infer_threads,
            loaded_bytes_max: config.loaded_bytes_max,
        },
    );
    let shared = Arc::new(Shared {
        notifier: news.notifier,
        db,
        kept,
        store,
        models,
        holdings,
        drain,
        back_off: back_off::BackOff::default(),
        limits: decode::DecodeLimits {
            pixels_max: config.limits.image_pixels_max,
            side_px_max: config.limits.image_side_px_max,
            bytes_max: config.limits.decode_bytes_max,
            formats: config
                .limits
                .formats
                .iter()
                .map(|&format| ImageFormat::from(format))
                .collect(),
        },
        image_bytes_max: config.limits.image_bytes_max,
    });

    let (to_complete, outcomes) = mpsc::channel(widths.room);
    tokio::spawn(shown::show_loaded(shared.clone()));
    tokio::spawn(complete::complete_all(shared.clone(), outcomes, widths));

    let (to_store, unstored) = mpsc::channel(widths.room);
    let storer = store::Storer::new(config.result_inline_bytes_max, to_store);
    tokio::spawn(store::store_results(
        shared.clone(),
        unstored,
        widths.fetch_concurrency,
        widths.decode_threads,
    ));

    let batcher = Arc::new(batch::Batcher::new(widths.batch_wait));
    for index in 0..widths.infer_threads {
        let (shared, batcher, storer) = (shared.clone(), batcher.clone(), storer.clone());
        std::thread::Builder::new()
            .name(format!("infer-{index}"))
            .spawn(move || {
                ready_thread(index);
                infer::infer_batches(&shared, &batcher, &storer);
            })?;
    }

    // As few bytes of images as keep the threads busy: what waits, waits as a claim.
    let (to_develop, fetched) = mpsc::channel(widths.decode_threads);
    let fetched = Arc::new(std::sync::Mutex::new(fetched));
    for index in 0..widths.decode_threads {
        let (shared, batcher, fetched) = (shared.clone(), batcher.clone(), fetched.clone());
        std::thread::Builder::new()
            .name(format!("decode-{index}"))
            .spawn(move || develop::develop_images(&shared, &fetched, &batcher))?;
    }

    let (to_fetch, claims) = mpsc::channel(widths.room);
    tokio::spawn(fetch::fetch_images(
        shared.clone(),
        claims,
        to_develop,
        widths.fetch_concurrency,
    ));

    let claimer = claim::Claimer {
        shared,
        models: config.models.clone(),
        room: Arc::new(Semaphore::new(widths.room)),
        room_size: widths.room,
        enough: widths.enough,
        poll: widths.poll,
        end: config.end.clone(),
        listener: news.listener,
        claimed: AtomicU64::new(0),
        to_fetch,
        to_complete,
    };
    tokio::spawn(claimer.claim_jobs());
    Ok(())
}
