//! A loaded version, and the size of its forward batches.

use std::{sync::OnceLock, time::Duration};

use jobs::{
    manifest::{Manifest, Precision},
    queue::LoadedModel,
};

use super::{
    best_batch::{BestBatch, ComparisonResult},
    fault::{ModelWarning, RefusedArtifact},
    remarks::Remarks,
};
use crate::torch::{Program, give_back_freed_memory};

/// A loaded and warmed-up model version.
#[derive(Debug)]
pub struct Model {
    pub version_id: i64,
    /// `name:version`.
    pub reference: String,
    pub manifest: Manifest,
    /// In the order of the output; empty if the manifest names no file of labels.
    pub labels: Vec<String>,
    pub program: Program,
    pub precision: Precision,
    /// Name of the loaded artifact in the manifest.
    pub(super) artifact: String,
    /// Artifacts that fit the device better, but that the worker refused.
    pub(super) refused: Vec<RefusedArtifact>,
    /// Memory that the model counts: what the process grew by during its load, between one and four times the file.
    pub(super) bytes: u64,
    pub(super) batch: BestBatch,
    /// The first finding about the model, at load or at work.
    pub(super) warning: OnceLock<ModelWarning>,
}

impl Model {
    /// What results say about the model: a precision that is not the default of the manifest, and a warning about its answers.
    pub fn remarks(&self) -> Remarks {
        let is_default = self.manifest.precision.first() == Some(&self.precision);
        Remarks {
            precision: (!is_default).then_some(self.precision),
            warning: self.warning().and_then(ModelWarning::result_code),
        }
    }

    pub fn warning(&self) -> Option<&ModelWarning> {
        self.warning.get()
    }

    /// All that operators should know about the model, in words: artifacts that were refused, and the
    /// [warning](Self::warning). `None` if there is nothing.
    pub fn warnings(&self) -> Option<String> {
        let refused = self.refused.iter();
        let refused = refused.map(|one| format!("runs {} because {one}", self.artifact));
        let warning = self.warning().map(ToString::to_string);
        let warnings: Vec<_> = refused.chain(warning).collect();
        (!warnings.is_empty()).then(|| warnings.join("; "))
    }

    /// The size of a forward batch that is cheapest for each image on this device.
    pub fn best_batch(&self) -> usize {
        self.batch.best()
    }

    /// The most images of the next forward batch: the best batch, or a size under comparison.
    pub fn next_batch(&self) -> usize {
        self.batch.next()
    }

    pub(super) fn to_loaded_model(&self) -> LoadedModel {
        LoadedModel {
            model: self.reference.clone(),
            precision: self.precision.to_string(),
            batch_best: self.best_batch() as u32,
            artifact: Some(self.artifact.clone()),
            warning: self.warnings(),
        }
    }

    /// Records the CPU time of a pass over `images` images.
    pub fn record_pass(&self, images: usize, cost: Duration) {
        match self.batch.record_pass(images, cost) {
            Some(ComparisonResult::NewBest(best)) => tracing::info!(
                model = self.manifest.name,
                batch.images = best,
                "a comparison at work found a cheaper forward batch"
            ),
            Some(ComparisonResult::BestStays) => give_back_freed_memory(),
            None => {}
        }
    }

    /// Records that a forward batch of `images` images failed although all its images succeeded in smaller ones, of up to
    /// `limit` images. From now on there are no larger ones.
    pub fn record_failing_size(&self, images: usize, limit: usize, cause: String) {
        self.batch.lower_limit(limit);
        let warning = ModelWarning::BatchFails { images, cause };
        tracing::warn!(model = self.reference, batch.images = limit, %warning, "smaller batches from now on");
        drop(self.warning.set(warning)); // an earlier warning stays
    }

    /// Records that a pass over `images` images ran out of memory. Later forward batches are at most half as large.
    pub fn record_out_of_memory(&self, images: usize) {
        if let Some(half) = self.batch.record_out_of_memory(images) {
            tracing::warn!(
                model = self.manifest.name,
                batch.images = half,
                "out of memory: smaller batches from now on"
            );
        }
    }
}
