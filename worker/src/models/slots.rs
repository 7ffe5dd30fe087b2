//! The versions that are loaded or being loaded, and which one is unloaded first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use super::{load_error::LoadError, model::Model};

/// How long the models count as crowded after one was unloaded for another.
const CROWDED_FOR: Duration = Duration::from_mins(1);

/// How long a version that could not be loaded is refused without another try.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// The result of a load, shared by all who wait for it.
pub(super) type Loading = Arc<OnceCell<Result<Arc<Model>, LoadError>>>;

#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_version: HashMap<i64, Slot>,
    /// When a model was last unloaded for another.
    unloaded_at: Option<Instant>,
    /// Unloaded models that jobs still hold.
    leaving: Vec<Weak<Model>>,
}

#[derive(Debug)]
struct Slot {
    loading: Loading,
    used_at: Instant,
    refused_at: Option<Instant>,
}

impl Slot {
    fn model(&self) -> Option<&Arc<Model>> {
        self.loading.get()?.as_ref().ok()
    }
}

/// The result of [`Slots::make_room`].
#[derive(Debug)]
pub(super) enum MadeRoom {
    /// A model was unloaded. Its memory is free when no job holds the model any more.
    Unloaded(Weak<Model>),
    /// No other model is loaded.
    NothingToUnload,
}

impl Slots {
    /// The load of a version, which becomes the most recently used one.
    pub(super) fn get(&self, version_id: i64) -> Loading {
        let mut state = self.state();
        let slot = state.by_version.entry(version_id).or_insert_with(|| Slot {
            loading: Arc::default(),
            used_at: Instant::now(),
            refused_at: None,
        });
        slot.used_at = Instant::now();
        if slot.refused_at.is_some_and(|at| at.elapsed() > REFUSED_FOR) {
            (slot.loading, slot.refused_at) = (Arc::default(), None);
        }
        slot.loading.clone()
    }

    /// Refuses the version for a while, because its load failed.
    pub(super) fn refuse(&self, version_id: i64, loading: &Loading) {
        let mut state = self.state();
        let slot = state.by_version.get_mut(&version_id);
        if let Some(slot) = slot.filter(|slot| Arc::ptr_eq(&slot.loading, loading)) {
            slot.refused_at.get_or_insert_with(Instant::now);
        }
    }

    /// Forgets a failed load, so that the next call tries again.
    pub(super) fn forget(&self, version_id: i64, loading: &Loading) {
        let mut state = self.state();
        let slot = state.by_version.get(&version_id);
        if slot.is_some_and(|slot| Arc::ptr_eq(&slot.loading, loading)) {
            state.by_version.remove(&version_id);
        }
    }

    /// Unloads the least recently used models beyond `bytes_max`, but never `keep`. Jobs that hold an unloaded model
    /// finish with it.
    pub(super) fn unload_beyond(&self, bytes_max: u64, keep: i64) {
        let mut state = self.state();
        let loaded = state.by_version.values().filter_map(Slot::model);
        let mut bytes: u64 = loaded.map(|model| model.bytes).sum();
        while bytes > bytes_max {
            let Some(unloaded) = state.unload_oldest(keep) else {
                return;
            };
            bytes -= unloaded.bytes;
        }
    }

    /// Unloads one model for `version_id`, or returns one that was unloaded before and is still held by jobs.
    pub(super) fn make_room(&self, version_id: i64) -> MadeRoom {
        let mut state = self.state();
        state.leaving.retain(|model| model.strong_count() > 0);
        if let Some(leaving) = state.leaving.first() {
            return MadeRoom::Unloaded(leaving.clone());
        }
        match state.unload_oldest(version_id) {
            Some(model) => MadeRoom::Unloaded(Arc::downgrade(&model)),
            None => MadeRoom::NothingToUnload,
        }
    }

    /// Whether more models are in use than fit into memory.
    pub(super) fn are_crowded(&self) -> bool {
        let unloaded_at = self.state().unloaded_at;
        unloaded_at.is_some_and(|at| at.elapsed() < CROWDED_FOR)
    }

    pub(super) fn loaded(&self) -> Vec<Arc<Model>> {
        let state = self.state();
        let loaded = state.by_version.values().filter_map(Slot::model);
        loaded.cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while it is held")
    }
}

impl State {
    fn unload_oldest(&mut self, keep: i64) -> Option<Arc<Model>> {
        let loaded = self.by_version.iter();
        let loaded = loaded.filter(|(id, slot)| **id != keep && slot.model().is_some());
        let (&oldest, _) = loaded.min_by_key(|(_, slot)| slot.used_at)?;
        let slot = self.by_version.remove(&oldest)?;
        let model = slot.model()?.clone();
        self.unloaded_at = Some(Instant::now());
        self.leaving.retain(|model| model.strong_count() > 0);
        self.leaving.push(Arc::downgrade(&model));
        tracing::info!(
            model = model.reference,
            model.bytes = model.bytes,
            "unloaded: least recently used"
        );
        Some(model)
    }
}
