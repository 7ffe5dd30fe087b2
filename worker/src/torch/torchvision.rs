//! The operators of torchvision that scripted models call: `nms`, `roi_align` and `deform_conv2d`, in C++ beside this file.
//! A module that calls an operator without a registration cannot be loaded.
#![allow(unsafe_code)] // the function throws nothing, and ends `error` with a NUL within its bytes

use std::ffi::c_char;

use tch::TchError;

use super::libtorch::{ERROR_BYTES, check};

unsafe extern "C" {
    fn darkroom_register_torchvision(error: *mut c_char, error_bytes: usize) -> bool;
}

/// Registers the operators for the CPU and for GPUs. Later calls do nothing.
pub(super) fn register_operators() -> Result<(), TchError> {
    // SAFETY: the function takes no pointer but `error`.
    check(|error| unsafe { darkroom_register_torchvision(error, ERROR_BYTES) })
}

#[cfg(test)]
mod tests;
