//! A loaded version, and how many images it takes at once.

use std::time::Duration;

use jobs::{
    manifest::{Manifest, Precision},
    queue::LoadedModel,
};

use super::best_batch::{BestBatch, Tried};
use crate::pipeline::Program;

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
    pub(super) bytes: u64,
    pub(super) batch: BestBatch,
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

    pub(super) fn shown(&self) -> LoadedModel {
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
pub(super) fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: looks at memory that nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}
