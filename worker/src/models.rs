//! The models of this worker: fetched by digest into a cache on disk, loaded, warmed up, and kept while they are used.

mod best_batch;
mod cache;
mod load;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jobs::{
    manifest::{Manifest, Precision},
    models::ModelVersion,
    object_store::{ObjectStore, StoreError},
    queue::LoadedModel,
};
use sqlx::PgPool;
use tokio::sync::OnceCell;

use self::{
    best_batch::{BestBatch, Tried},
    cache::DiskCache,
};
use crate::{
    config::PrecisionChoice,
    pipeline::{Device, Program},
};

/// How long after one had to go the models are too many for the budget.
const CROWDED_FOR: Duration = Duration::from_mins(1);

/// How long a version that cannot be loaded stays refused without another look.
const BROKEN_FOR: Duration = Duration::from_secs(30);

/// A loaded version, warm.
#[derive(Debug)]
pub struct Model {
    pub version_id: i64,
    /// `name:version`.
    pub reference: String,
    pub manifest: Manifest,
    /// In the order of the output; empty if the manifest names none.
    pub labels: Vec<String>,
    pub program: Program,
    pub precision: Precision,
    /// Of its files: a stand-in for what it takes loaded.
    bytes: u64,
    batch: BestBatch,
}

impl Model {
    /// The precision, where it is not the manifest's default: then results say so.
    pub fn other_precision(&self) -> Option<Precision> {
        (self.manifest.precision.first() != Some(&self.precision)).then_some(self.precision)
    }

    /// Images that this device takes best at once.
    pub fn batch_best(&self) -> usize {
        self.batch.best()
    }

    /// Most images of the next batch: the best, or a size that is tried.
    pub fn batch_next(&self) -> usize {
        self.batch.next()
    }

    fn shown(&self) -> LoadedModel {
        LoadedModel {
            model: self.reference.clone(),
            precision: self.precision.to_string(),
            batch_best: self.batch_best() as u32,
        }
    }

    /// A pass over so many images took so much of a core.
    pub fn passed(&self, images: usize, cost: Duration) {
        match self.batch.passed(images, cost) {
            Some(Tried::Won(best)) => tracing::info!(
                model = self.manifest.name,
                batch.images = best,
                "cheaper at work: batches of so many from now on"
            ),
            Some(Tried::Kept) => give_back_freed_memory(),
            None => {}
        }
    }

    /// So many did not fit: half from now on.
    pub fn too_much_at_once(&self, images: usize) {
        if let Some(half) = self.batch.too_much(images) {
            tracing::warn!(
                model = self.manifest.name,
                batch.images = half,
                "out of memory: smaller batches from now on"
            );
        }
    }
}

/// What threads freed that have ended, or will not need it again, stays in their arenas otherwise.
fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: looks at memory that nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Why a model is not there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadFault {
    /// Our trouble, for now.
    #[error("{0}")]
    Unavailable(String),
    /// The device has no room for it beside what is loaded; another machine may.
    #[error("{0}")]
    TooLarge(String),
    /// The artifact's, for good.
    #[error("{0}")]
    Broken(String),
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
    pub device: Device,
    pub precision: PrecisionChoice,
    pub batch_max: usize,
    /// That run models at the same time.
    pub infer_threads: usize,
    pub loaded_bytes_max: u64,
}

type Loading = Arc<OnceCell<Result<Arc<Model>, LoadFault>>>;

#[derive(Debug)]
struct Slot {
    loading: Loading,
    used_at: Instant,
}

/// Every version that this worker has loaded, or is loading.
#[derive(Debug)]
pub struct Models {
    db: PgPool,
    cache: DiskCache,
    config: ModelsConfig,
    slots: Mutex<HashMap<i64, Slot>>,
    /// When the budget last forced one out.
    unloaded_at: Mutex<Option<Instant>>,
}

impl Models {
    pub fn new(db: PgPool, store: ObjectStore, config: ModelsConfig) -> Self {
        Self {
            db,
            cache: DiskCache::new(config.cache_dir.clone(), store),
            config,
            slots: Mutex::default(),
            unloaded_at: Mutex::default(),
        }
    }

    /// The version, loaded now if it was not; however many ask at once, it is loaded once.
    ///
    /// # Errors
    /// See [`LoadFault`].
    pub async fn get(&self, version_id: i64) -> Result<Arc<Model>, LoadFault> {
        let loading = {
            let mut slots = self.slots.lock().expect("no panic while it is held");
            let slot = slots.entry(version_id).or_insert_with(|| Slot {
                loading: Arc::default(),
                used_at: Instant::now(),
            });
            let broken = matches!(slot.loading.get(), Some(Err(_)));
            if broken && slot.used_at.elapsed() > BROKEN_FOR {
                slot.loading = Arc::default();
            }
            // The refusal of a broken one ages from its first look on.
            if !broken {
                slot.used_at = Instant::now();
            }
            slot.loading.clone()
        };
        let loaded = loading.get_or_init(|| self.load(version_id)).await.clone();
        match &loaded {
            Err(LoadFault::Unavailable(_) | LoadFault::TooLarge(_)) => {
                self.forget(version_id, &loading);
            }
            Err(LoadFault::Broken(_)) => {}
            Ok(_) => self.evict(version_id),
        }
        loaded
    }

    /// Names of the loaded models, while there are more in use than fit; `None` while all fit, and it does not matter
    /// which are loaded.
    pub fn crowded(&self) -> Option<Vec<String>> {
        let unloaded_at = *self.unloaded_at.lock().expect("no panic while it is held");
        unloaded_at.filter(|at| at.elapsed() < CROWDED_FOR)?;
        let slots = self.slots.lock().expect("no panic while it is held");
        let loaded = slots
            .values()
            .filter_map(|slot| slot.loading.get()?.as_ref().ok());
        let mut names: Vec<_> = loaded.map(|model| model.manifest.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    /// What is loaded, by name.
    pub fn loaded(&self) -> Vec<LoadedModel> {
        let slots = self.slots.lock().expect("no panic while it is held");
        let loaded = slots
            .values()
            .filter_map(|slot| slot.loading.get()?.as_ref().ok());
        let mut loaded: Vec<_> = loaded.map(|model| model.shown()).collect();
        loaded.sort_unstable_by(|a, b| a.model.cmp(&b.model));
        loaded
    }

    fn forget(&self, version_id: i64, loading: &Loading) {
        let mut slots = self.slots.lock().expect("no panic while it is held");
        if slots
            .get(&version_id)
            .is_some_and(|slot| Arc::ptr_eq(&slot.loading, loading))
        {
            slots.remove(&version_id);
        }
    }

    /// Lets go of the least recently used beyond the budget; jobs that hold one finish with it.
    fn evict(&self, keep: i64) {
        let mut slots = self.slots.lock().expect("no panic while it is held");
        let loaded = |slot: &Slot| {
            slot.loading
                .get()
                .and_then(|loaded| loaded.as_ref().ok())
                .map(|model| model.bytes)
        };
        let mut bytes: u64 = slots.values().filter_map(loaded).sum();
        while bytes > self.config.loaded_bytes_max {
            let oldest = slots
                .iter()
                .filter(|(id, slot)| **id != keep && loaded(slot).is_some())
                .min_by_key(|(_, slot)| slot.used_at);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            let freed = slots
                .remove(&oldest)
                .as_ref()
                .and_then(loaded)
                .unwrap_or_default();
            bytes -= freed;
            *self.unloaded_at.lock().expect("no panic while it is held") = Some(Instant::now());
            tracing::info!(
                model.version_id = oldest,
                model.bytes = freed,
                "unloaded: least recently used"
            );
        }
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
        let load = load::Load {
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
        let loaded = tokio::task::spawn_blocking(move || load.load()).await;
        loaded
            .unwrap_or_else(|panic| Err(LoadFault::Broken(panic.to_string())))
            .map(Arc::new)
    }
}
