//! Which versions are loaded or being loaded, and which goes first where there are too many.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use super::{LoadFault, Model};

/// How long after one had to go the models are too many.
const CROWDED_FOR: Duration = Duration::from_mins(1);

/// How long a version that cannot be loaded stays refused without another look.
const REFUSED_FOR: Duration = Duration::from_secs(30);

pub(super) type Loading = Arc<OnceCell<Result<Arc<Model>, LoadFault>>>;

#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_version: HashMap<i64, Slot>,
    /// When one last had to go for another.
    unloaded_at: Option<Instant>,
    /// Unloaded, and held by jobs that have not ended.
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

/// What can be done for a version that the device has no room for.
#[derive(Debug)]
pub(super) enum Room {
    /// One was unloaded: its memory is free when the last job lets go of it.
    Made(Weak<Model>),
    /// Nothing: it has the device to itself.
    None,
}

impl Slots {
    /// The version's, from now on the most recently used.
    pub(super) fn of(&self, version_id: i64) -> Loading {
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

    /// It could not be loaded: nobody tries again for a while.
    pub(super) fn refuse(&self, version_id: i64, loading: &Loading) {
        let mut state = self.state();
        let slot = state.by_version.get_mut(&version_id);
        if let Some(slot) = slot.filter(|slot| Arc::ptr_eq(&slot.loading, loading)) {
            slot.refused_at.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn forget(&self, version_id: i64, loading: &Loading) {
        let mut state = self.state();
        let slot = state.by_version.get(&version_id);
        if slot.is_some_and(|slot| Arc::ptr_eq(&slot.loading, loading)) {
            state.by_version.remove(&version_id);
        }
    }

    /// Lets go of the least recently used beyond the budget; jobs that hold one finish with it.
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

    /// Lets go of one for a version that does not fit beside it; first of those that are on their way out already.
    pub(super) fn make_room(&self, version_id: i64) -> Room {
        let mut state = self.state();
        state.leaving.retain(|model| model.strong_count() > 0);
        if let Some(leaving) = state.leaving.first() {
            return Room::Made(leaving.clone());
        }
        let unloaded = state.unload_oldest(version_id);
        unloaded.map_or(Room::None, |model| Room::Made(Arc::downgrade(&model)))
    }

    /// Whether there are more models in use than fit.
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
