//! Why a forward pass or the loading of a module failed.

use tch::TchError;

/// Why a forward pass, or the loading of a module, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    #[error("{0}")]
    Failed(String),
    /// The device fails for every image.
    #[error("device lost: {0}")]
    DeviceLost(String),
}

impl From<TchError> for ForwardError {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        // The words of the allocators of CUDA and the CPU, of cuBLAS and cuDNN, and of C++.
        let phrases = [
            "out of memory",
            "can't allocate memory",
            "_ALLOC_FAILED",
            "bad_alloc",
        ];
        if phrases.iter().any(|phrase| text.contains(phrase)) {
            Self::OutOfMemory(text)
        } else {
            Self::Failed(text)
        }
    }
}
