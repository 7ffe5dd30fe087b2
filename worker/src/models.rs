//! The models of this worker: fetched by digest into a cache on disk, loaded, warmed up, and kept while they are used.

mod best_batch;
mod cache;
mod load;
mod model;
mod slots;

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use jobs::{
    db::Db,
    models::ModelVersion,
    object_store::{ObjectStore, StoreError},
    queue::LoadedModel,
};
use tokio::sync::Mutex;

pub use self::model::Model;
use self::{
    cache::DiskCache,
    load::Load,
    slots::{Room, Slots},
};
use crate::{config::PrecisionChoice, pipeline::Device};

/// How long jobs may hold on to a model that was unloaded for another.
const HELD_MAX: Duration = Duration::from_secs(30);
const LOOKED_AFTER: Duration = Duration::from_millis(5);

/// Why a model is not there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadFault {
    /// Our trouble, for now.
    #[error("{0}")]
    Unavailable(String),
    /// The device has no room for it, even alone; another machine may.
    #[error("{0}")]
    TooLarge(String),
    /// The artifact's, for good.
    #[error("{0}")]
    Broken(String),
    /// The device answers nothing any more, whatever the model.
    #[error("{0}")]
    DeviceLost(String),
}

impl From<StoreError> for LoadFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(error.to_string()),
            StoreError::Missing(_) | StoreError::Corrupt(_) => Self::Broken(error.to_string()),
        }
    }
}

#[derive(Debug)]
pub struct ModelsConfig {
    pub cache_dir: PathBuf,
    pub cache_bytes_max: u64,
    pub device: Device,
    pub precision: PrecisionChoice,
    pub batch_max: usize,
    /// That run models at the same time.
    pub infer_threads: usize,
    pub loaded_bytes_max: u64,
}

/// Every version that this worker has loaded, or is loading.
#[derive(Debug)]
pub struct Models {
    db: Db,
    cache: DiskCache,
    config: ModelsConfig,
    slots: Slots,
    /// One is loaded after the other: each measures the device, and may need the room of those before.
    turn: Mutex<()>,
}

impl Models {
    pub fn new(db: Db, store: ObjectStore, config: ModelsConfig) -> Self {
        Self {
            db,
            cache: DiskCache::new(config.cache_dir.clone(), config.cache_bytes_max, store),
            config,
            slots: Slots::default(),
            turn: Mutex::default(),
        }
    }

    /// The version, loaded now if it was not; however many ask at once, it is loaded once.
    ///
    /// # Errors
    /// See [`LoadFault`].
    pub async fn get(&self, version_id: i64) -> Result<Arc<Model>, LoadFault> {
        let loading = self.slots.of(version_id);
        let loaded = loading.get_or_init(|| self.load(version_id)).await.clone();
        match &loaded {
            Err(LoadFault::Unavailable(_)) => self.slots.forget(version_id, &loading),
            Err(LoadFault::TooLarge(_) | LoadFault::Broken(_) | LoadFault::DeviceLost(_)) => {
                self.slots.refuse(version_id, &loading);
            }
            Ok(_) => (self.slots).unload_beyond(self.config.loaded_bytes_max, version_id),
        }
        loaded
    }

    /// Names of the loaded models, while there are more in use than fit; `None` while all fit, and it does not matter
    /// which are loaded.
    pub fn crowded(&self) -> Option<Vec<String>> {
        self.slots.are_crowded().then(|| {
            let loaded = self.slots.loaded().into_iter();
            let mut names: Vec<_> = loaded.map(|model| model.manifest.name.clone()).collect();
            names.sort_unstable();
            names.dedup();
            names
        })
    }

    /// What is loaded, by name.
    pub fn loaded(&self) -> Vec<LoadedModel> {
        let loaded = self.slots.loaded();
        let mut loaded: Vec<_> = loaded.iter().map(|model| model.shown()).collect();
        loaded.sort_unstable_by(|a, b| a.model.cmp(&b.model));
        loaded
    }

    async fn load(&self, version_id: i64) -> Result<Arc<Model>, LoadFault> {
        let began = Instant::now();
        let version = jobs::models::version(&self.db, version_id);
        let version = jobs::db::answered(&self.db, version).await;
        let version = version.map_err(|error| LoadFault::Unavailable(error.to_string()))?;
        let version =
            version.ok_or_else(|| LoadFault::Broken(format!("no model version {version_id}")))?;
        let loaded = self.load_version(&version).await;
        let (model, seconds) = (version.reference(), began.elapsed().as_secs_f64());
        match &loaded {
            Ok(loaded) => tracing::info!(
                model,
                seconds,
                batch.images = loaded.batch_best(),
                "model loaded"
            ),
            Err(error) => tracing::error!(model, error.cause = %error, "model not loaded"),
        }
        metrics::histogram!("darkroom_model_load_seconds").record(seconds);
        loaded
    }

    async fn load_version(&self, version: &ModelVersion) -> Result<Arc<Model>, LoadFault> {
        let file = |name: &str| {
            let digest = version.files.get(name);
            digest
                .copied()
                .ok_or_else(|| LoadFault::Broken(format!("the version has no file {name}")))
        };
        let manifest = version.manifest.clone();
        let (artifact, bytes) = self.cache.file(file(&manifest.artifact)?).await?;
        let labels = match &manifest.labels {
            Some(name) => self.cache.lines(file(name)?).await?,
            None => Vec::new(),
        };
        let load = Load {
            version_id: version.id,
            reference: version.reference(),
            device: self.config.device,
            precision: self
                .config
                .device
                .precision(self.config.precision, &manifest.precision),
            batch_max: self.config.batch_max.min(manifest.batch_max.into()).max(1),
            infer_threads: self.config.infer_threads,
            manifest,
            labels,
            artifact,
            bytes,
        };
        self.onto_device(load).await.map(Arc::new)
    }

    /// Where there is no room, the least recently used go first.
    async fn onto_device(&self, load: Load) -> Result<Model, LoadFault> {
        let _turn = self.turn.lock().await;
        let mut looked_again = false;
        loop {
            let this = load.clone();
            let loaded = tokio::task::spawn_blocking(move || this.load()).await;
            let loaded = loaded.unwrap_or_else(|panic| Err(LoadFault::Broken(panic.to_string())));
            if !matches!(loaded, Err(LoadFault::TooLarge(_))) {
                return loaded;
            }
            match self.slots.make_room(load.version_id) {
                Room::Made(unloaded) => let_go(&unloaded).await?,
                Room::None if looked_again => return loaded,
                Room::None => {
                    // One that had its turn right before may not count as loaded yet.
                    tokio::time::sleep(LOOKED_AFTER).await;
                    looked_again = true;
                }
            }
        }
    }
}

/// Waits for the jobs that still hold it.
async fn let_go(unloaded: &Weak<Model>) -> Result<(), LoadFault> {
    let until = Instant::now() + HELD_MAX;
    while unloaded.strong_count() > 0 {
        if Instant::now() > until {
            let held = "jobs still hold the model that was unloaded for this one";
            return Err(LoadFault::Unavailable(held.into()));
        }
        tokio::time::sleep(LOOKED_AFTER).await;
    }
    Ok(())
}
