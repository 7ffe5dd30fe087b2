//! The stages of a job in the worker: claim, fetch, decode and preprocess, forward batch, infer, postprocess, complete.
//! A result that is too large for its row is stored in S3 before it is completed.
//!
//! Every job has a place in the pipeline from its claim until its outcome is written. The number of places bounds all queues
//! between the stages. The claimer claims no more jobs than there are free places.

mod attempt;
mod claim;
mod claim_pause;
mod claim_policy;
mod complete;
mod context;
mod decode_budget;
mod decode_stage;
mod decoder;
mod fetch;
mod forward_batch;
mod infer;
mod placement;
pub mod postprocess;
pub mod preprocess;
mod report_loaded_models;
mod report_store_fault;
mod settings;
mod stage;
mod store;
mod store_faults;
mod trials;

use std::sync::{Arc, Mutex, atomic::AtomicU64};

use jobs::{db::StatementPool, object_store::ObjectStore, queue};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
};

pub use self::placement::Placement;
use self::{
    claim_pause::ClaimPause, claim_policy::ClaimSettings, context::StageContext,
    decode_budget::DecodeBudget, decoder::Decoder, settings::PipelineSettings,
    store_faults::StoreFaults,
};
use crate::{
    background,
    config::Config,
    drain::Drain,
    held_jobs::HeldJobs,
    models::{Models, ModelsConfig},
    torch::{Device, prepare_thread},
};

/// Sends and receives wake-ups of the queue.
#[derive(Debug, Clone)]
pub struct WakeUps {
    pub notifier: queue::Notifier,
    pub listener: queue::WorkerListener,
}

fn models_config(config: &Config, device: Device, settings: &PipelineSettings) -> ModelsConfig {
    ModelsConfig {
        cache_dir: config.model_cache_dir(),
        cache_bytes_max: config.model_cache_bytes_max,
        device,
        precision: config.precision,
        batch_max: settings.batch_max,
        infer_threads: settings.infer_threads,
        loaded_bytes_max: config.loaded_bytes_max,
        signing: config.signing.clone(),
        worker_name: config.worker_name(),
        check_output: postprocess::check,
    }
}

/// Starts what tells the database how this worker is.
fn start_reports(context: &Arc<StageContext>, drain: &Drain) {
    background::spawn(
        drain,
        "report of loaded models",
        report_loaded_models::report_loaded_models(context.clone()),
    );
    background::spawn(
        drain,
        "report of the bucket",
        report_store_fault::report_store_fault(context.clone()),
    );
}

/// Starts all stages. The claimer ends when the worker drains; the other stages then finish the jobs that are left.
pub fn start(
    config: &Config,
    device: Device,
    statements: StatementPool,
    store: ObjectStore,
    wake_ups: WakeUps,
    held_jobs: Arc<HeldJobs>,
    drain: &Drain,
) -> anyhow::Result<()> {
    let settings = PipelineSettings::new(config, device);
    let decoders = Decoder::for_threads(config, settings.decode_threads)?;
    let db = statements.db().clone();
    tracing::info!(?settings, "pipeline started");
    let models = models_config(config, device, &settings);
    let models = Models::new(db.clone(), store.clone(), models);
    let context = Arc::new(StageContext {
        notifier: wake_ups.notifier,
        db,
        statements,
        store,
        models,
        held_jobs,
        drain: drain.clone(),
        claim_pause: ClaimPause::default(),
        store_faults: StoreFaults::new(config.store_faults_max.into()),
        limits: decoder::limits(config),
        decode_budget: DecodeBudget::new(config.decode_memory_bytes_max(), Handle::current()),
        image_bytes_max: config.limits.image_bytes_max,
    });

    let (to_complete, outcomes) = mpsc::channel(settings.places);
    start_reports(&context, drain);
    background::spawn(
        drain,
        "trials and prefetches",
        trials::load_when_asked(
            context.clone(),
            wake_ups.listener.clone(),
            !config.no_trials,
        ),
    );
    background::spawn(
        drain,
        "complete stage",
        complete::complete_all(context.clone(), outcomes, settings),
    );

    let (to_store, unstored) = mpsc::channel(settings.places);
    let storer = store::Storer::new(config.result_inline_bytes_max, to_store);
    background::spawn(
        drain,
        "store stage",
        store::store_results(
            context.clone(),
            unstored,
            settings.fetch_concurrency,
            settings.decode_threads,
        ),
    );

    let batcher = Arc::new(forward_batch::Batcher::new(settings.batch_wait));
    for index in 0..settings.infer_threads {
        let (context, batcher, storer) = (context.clone(), batcher.clone(), storer.clone());
        background::spawn_thread(drain, format!("infer-{index}"), move || {
            prepare_thread(index);
            infer::run_forward_batches(&context, &batcher, &storer);
        })?;
    }

    // Short, so that few fetched images wait in memory. The other jobs wait before their fetch.
    let (to_decode, fetched) = mpsc::channel(settings.decode_threads);
    let fetched = Arc::new(Mutex::new(fetched));
    for (index, decoder) in decoders.into_iter().enumerate() {
        let (context, batcher, fetched) = (context.clone(), batcher.clone(), fetched.clone());
        background::spawn_thread(drain, format!("decode-{index}"), move || {
            decode_stage::decode_images(&context, &fetched, &batcher, decoder);
        })?;
    }

    let (to_fetch, claims) = mpsc::channel(settings.places);
    background::spawn(
        drain,
        "fetch stage",
        fetch::fetch_images(
            context.clone(),
            claims,
            to_decode,
            settings.fetch_concurrency,
        ),
    );

    let claimer = claim::Claimer {
        context,
        settings: ClaimSettings {
            models: config.models.clone(),
            places: settings.places,
            busy_jobs: settings.busy_jobs,
            poll_interval: settings.poll_interval,
            ends_when_empty: config.end.drain,
        },
        places: Arc::new(Semaphore::new(settings.places)),
        end: config.end.clone(),
        lower_priority_share: config.tuning.lower_priority_share,
        listener: wake_ups.listener,
        claimed: AtomicU64::new(0),
        to_fetch,
        to_complete,
    };
    background::spawn(drain, "claim stage", claimer.run());
    Ok(())
}
