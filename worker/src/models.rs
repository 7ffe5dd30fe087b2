//! The models of this worker: fetched by digest into a cache on disk, loaded, warmed up, and statements while they are used.

mod batch_sizes;
mod best_batch;
mod disk_cache;
mod fault;
mod load_error;
mod loaded_bytes;
mod loader;
mod model;
mod probes;
mod remarks;
mod slots;

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use jobs::db::Db;
use jobs::{
    manifest::Manifest,
    models::{ModelVersion, SigningConfig},
    object_store::ObjectStore,
    queue::LoadedModel,
};
use tokio::sync::Mutex;

use self::{
    disk_cache::DiskCache,
    loader::Loader,
    slots::{MadeRoom, Slots},
};
pub use self::{
    fault::{ModelWarning, RefusedArtifact, Unreliable},
    load_error::LoadError,
    model::Model,
    remarks::Remarks,
};
use crate::torch::{Device, PrecisionChoice, targets};

/// How long a load waits for the jobs that hold an unloaded model.
const HELD_MAX: Duration = Duration::from_secs(30);
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Checks the output shape of a loaded model against its manifest and labels. The error text is for the owner of the model.
pub type OutputCheck = fn(&Manifest, &[String], &[usize]) -> Result<(), String>;

#[derive(Debug)]
pub struct ModelsConfig {
    pub cache_dir: PathBuf,
    pub cache_bytes_max: u64,
    pub device: Device,
    pub precision: PrecisionChoice,
    pub batch_max: usize,
    /// Threads that run models at the same time.
    pub infer_threads: usize,
    pub loaded_bytes_max: u64,
    /// Whose versions this worker runs.
    pub signing: SigningConfig,
    /// The name under which operators see why a version could not be loaded.
    pub worker_name: String,
    pub check_output: OutputCheck,
}

/// All model versions that this worker has loaded or is loading.
#[derive(Debug)]
pub struct Models {
    db: Db,
    cache: DiskCache,
    config: ModelsConfig,
    slots: Slots,
    /// Held by the one load at work: a load measures the device, and may have to unload other models.
    load_lock: Mutex<()>,
}

impl Models {
    pub fn new(db: Db, store: ObjectStore, config: ModelsConfig) -> Self {
        Self {
            db,
            cache: DiskCache::new(config.cache_dir.clone(), config.cache_bytes_max, store),
            config,
            slots: Slots::default(),
            load_lock: Mutex::default(),
        }
    }

    /// The model of a version; loads it first if needed. Concurrent calls for one version share one load.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn get(&self, version_id: i64) -> Result<Arc<Model>, LoadError> {
        let loading = self.slots.get(version_id);
        let loaded = loading.get_or_init(|| self.load(version_id)).await.clone();
        match &loaded {
            Err(LoadError::Unavailable(_) | LoadError::Absent(_)) => {
                self.slots.forget(version_id, &loading);
            }
            Err(
                LoadError::TooLarge(_)
                | LoadError::Broken(_)
                | LoadError::Unreliable(_)
                | LoadError::DeviceLost(_),
            ) => self.slots.refuse(version_id, &loading),
            Ok(_) => (self.slots).unload_beyond(self.config.loaded_bytes_max, version_id),
        }
        loaded
    }

    /// Names of the loaded models if more models are in use than fit into memory; `None` while all fit.
    pub fn loaded_if_crowded(&self) -> Option<Vec<String>> {
        self.slots.are_crowded().then(|| {
            let loaded = self.slots.loaded().into_iter();
            let mut names: Vec<_> = loaded.map(|model| model.manifest.name.clone()).collect();
            names.sort_unstable();
            names.dedup();
            names
        })
    }

    /// The loaded models for `ops.workers`, ordered by name.
    pub fn loaded(&self) -> Vec<LoadedModel> {
        let loaded = self.slots.loaded();
        let mut loaded: Vec<_> = loaded.iter().map(|model| model.to_loaded_model()).collect();
        loaded.sort_unstable_by(|a, b| a.model.cmp(&b.model));
        loaded
    }

    async fn load(&self, version_id: i64) -> Result<Arc<Model>, LoadError> {
        let began = Instant::now();
        let version = jobs::models::version(&self.db, version_id);
        let version = jobs::db::answered(&self.db, version).await;
        let version = version.map_err(|error| LoadError::Unavailable(error.to_string()))?;
        let version =
            version.ok_or_else(|| LoadError::Broken(format!("no model version {version_id}")))?;
        let loaded = self.load_version(&version).await;
        let (model, seconds) = (version.reference(), began.elapsed().as_secs_f64());
        match &loaded {
            Ok(loaded) => tracing::info!(
                model,
                seconds,
                batch.images = loaded.best_batch(),
                "model loaded"
            ),
            Err(error) => {
                tracing::error!(model, error.cause = %error, "model not loaded");
                self.note_load_error(version_id, error).await;
            }
        }
        metrics::histogram!("darkroom_model_load_seconds").record(seconds);
        loaded
    }

    /// Keeps the cause with the version, so that operators learn why its jobs fail.
    async fn note_load_error(&self, version_id: i64, error: &LoadError) {
        let cause = match error {
            LoadError::Broken(cause) | LoadError::TooLarge(cause) | LoadError::Absent(cause) => {
                cause.clone()
            }
            LoadError::Unreliable(cause) => cause.to_string(),
            LoadError::Unavailable(_) | LoadError::DeviceLost(_) => return,
        };
        let worker = &self.config.worker_name;
        let noted = jobs::models::note_load_error(&self.db, version_id, worker, &cause);
        if let Err(error) = jobs::db::answered(&self.db, noted).await {
            tracing::debug!(error.cause = %error, "cannot note why the model was not loaded");
        }
    }

    async fn load_version(&self, version: &ModelVersion) -> Result<Arc<Model>, LoadError> {
        let signed = self.config.signing.check_version(version);
        signed.map_err(|error| LoadError::Broken(error.to_string()))?;
        let file = |name: &str| {
            let digest = version.files.get(name);
            digest
                .copied()
                .ok_or_else(|| LoadError::Broken(format!("the version has no file {name}")))
        };
        let manifest = &version.manifest;
        let labels = match &manifest.labels {
            Some(name) => self.cache.labels(file(name)?).await?,
            None => Vec::new(),
        };
        let config = &self.config;
        let precision = (config.device).precision(config.precision, &manifest.precision);
        let artifacts = manifest.fitting_artifacts(&targets(config.device), precision);
        let mut artifacts = artifacts.into_iter().peekable();
        let mut refused = Vec::new();
        while let Some(name) = artifacts.next() {
            let (artifact, bytes) = self.cache.file(file(name)?).await?;
            let loader = Loader {
                version_id: version.id,
                reference: version.reference(),
                device: config.device,
                precision,
                batch_max: config.batch_max.min(manifest.batch_max.into()).max(1),
                infer_threads: config.infer_threads,
                manifest: manifest.clone(),
                labels: labels.clone(),
                artifact_name: name.to_owned(),
                artifact,
                bytes,
                check_output: config.check_output,
            };
            match (self.load_onto_device(loader).await, artifacts.peek()) {
                (Err(error @ (LoadError::Broken(_) | LoadError::Unreliable(_))), Some(next)) => {
                    tracing::warn!(
                        model = version.reference(),
                        artifact = name,
                        artifact.next = next,
                        error.cause = %error,
                        "an artifact cannot be used; using the next one that fits"
                    );
                    refused.push(RefusedArtifact {
                        name: name.to_owned(),
                        cause: error.to_string(),
                    });
                }
                (result, _) => {
                    let mut model = result?;
                    model.refused = refused;
                    return Ok(Arc::new(model));
                }
            }
        }
        Err(LoadError::Broken("the manifest names no artifact".into()))
    }

    /// Unloads the least recently used models as long as the device has too little memory.
    async fn load_onto_device(&self, loader: Loader) -> Result<Model, LoadError> {
        let _one_load = self.load_lock.lock().await;
        let mut has_retried = false;
        loop {
            let this = loader.clone();
            let result = tokio::task::spawn_blocking(move || this.load()).await;
            let result = result.unwrap_or_else(|panic| Err(LoadError::Broken(panic.to_string())));
            if !matches!(result, Err(LoadError::TooLarge(_))) {
                return result;
            }
            match self.slots.make_room(loader.version_id) {
                MadeRoom::Unloaded(unloaded) => wait_until_released(&unloaded).await?,
                MadeRoom::NothingToUnload if has_retried => return result,
                MadeRoom::NothingToUnload => {
                    // A model whose load has just ended may not be in its slot yet.
                    tokio::time::sleep(CHECK_INTERVAL).await;
                    has_retried = true;
                }
            }
        }
    }
}

/// Waits until no job holds the unloaded model.
async fn wait_until_released(unloaded: &Weak<Model>) -> Result<(), LoadError> {
    let deadline = Instant::now() + HELD_MAX;
    while unloaded.strong_count() > 0 {
        if Instant::now() > deadline {
            let held = "jobs still hold the model that was unloaded for this one";
            return Err(LoadError::Unavailable(held.into()));
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
    Ok(())
}
