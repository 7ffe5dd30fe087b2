//! The output of a forward pass for one image.

use std::sync::Arc;

/// The output of the model for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Without the dimension of the forward batch.
    pub shape: Arc<[usize]>,
    /// In row-major order, after the activation that the manifest names.
    pub values: Vec<f32>,
}
