//! What the probes found out about a model: why it is refused, or why its images run alone.

use std::fmt;

/// Why a model is refused although its forward passes work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreliable {
    /// A batch norm takes its statistics from the forward batch, or a dropout is at work.
    #[error(
        "the model was exported in training mode: its operator `{operator}` works as in training, so answers depend on chance or \
         on the other images of a forward batch. Call `model.eval()` before `torch.jit.trace`, and call functional dropouts \
         with `training=self.training`"
    )]
    TrainingMode { operator: String },
    /// Two passes over one image gave two answers.
    #[error(
        "the model gives another answer each time for one image: it uses random numbers, or it changes itself. Remove them \
         from the module, or seed them within `forward`"
    )]
    Random,
}

/// An artifact that a worker refused before it loaded the next one that fits its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedArtifact {
    /// In the manifest.
    pub name: String,
    pub cause: String,
}

impl fmt::Display for RefusedArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used: {}", self.name, self.cause)
    }
}

/// What operators should know about a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelWarning {
    /// The answer for an image depends on the other images of its forward batch, so each image runs alone.
    DependsOnNeighbors,
    /// The model fails on one of the probes, so it is not known whether answers depend on other images. Each image runs alone.
    NotProbed,
    /// Forward batches of this size fail, although their images do not. Only smaller ones run.
    BatchFails { images: usize, cause: String },
}

impl ModelWarning {
    /// The code that the results of jobs have; `None` for a warning that does not concern the answers.
    pub fn result_code(&self) -> Option<&'static str> {
        match self {
            Self::DependsOnNeighbors => Some("depends_on_neighbors"),
            Self::NotProbed | Self::BatchFails { .. } => None,
        }
    }
}

impl fmt::Display for ModelWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DependsOnNeighbors => f.write_str(
                "runs one image at a time: the answer for an image depends on the other images of its forward batch",
            ),
            Self::NotProbed => {
                f.write_str("runs one image at a time: the model fails on the images of the probe")
            }
            Self::BatchFails { images, cause } => {
                write!(f, "a forward batch of {images} images fails, smaller ones do not: {cause}")
            }
        }
    }
}
