//! Safe wrappers of `aoti.cc`: AOTInductor packages.
#![allow(unsafe_code)] // the functions throw nothing, and end `error` with a NUL within its bytes

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr::NonNull,
};

use tch::{TchError, Tensor};

use super::libtorch::{ERROR_BYTES, check};

/// Where a package has the files of its model.
const MODEL_PREFIX: &CStr = c"data/aotinductor/model/";
/// What `darkroom models compile` wrote about the package.
const ABOUT_RECORD: &CStr = c"extra/darkroom.json";

unsafe extern "C" {
    fn darkroom_unpack_package(
        path: *const c_char,
        prefix: *const c_char,
        about: *const c_char,
        folder: *const c_char,
        error: *mut c_char,
        error_bytes: usize,
    ) -> bool;
    fn darkroom_load_package(
        library: *const c_char,
        kind: *const c_char,
        device: *const c_char,
        folder: *const c_char,
        runners: usize,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut c_void;
    fn darkroom_free_package(runner: *mut c_void);
    fn darkroom_run_package(
        runner: *mut c_void,
        input: *const c_void,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut c_void;
    fn darkroom_libtorch_version() -> *const c_char;
    fn darkroom_compute_capability(gpu: c_int) -> c_int;
}

/// The compiled model of a package, loaded for a device.
#[derive(Debug)]
pub(super) struct CompiledModel(NonNull<c_void>);

// SAFETY: libtorch hands each pass a free runner of its own, under a lock.
unsafe impl Send for CompiledModel {}
// SAFETY: as above.
unsafe impl Sync for CompiledModel {}

impl CompiledModel {
    /// Loads `library`, a file of the unpacked package in `folder`. Up to `runners` passes run at the same time, further ones
    /// wait.
    ///
    /// # Errors
    /// The library needs instructions, symbols or a C library that this machine does not have.
    pub(super) fn load(
        library: &Path,
        folder: &Path,
        device: tch::Device,
        runners: usize,
    ) -> Result<Self, TchError> {
        let (kind, device) = match device {
            tch::Device::Cuda(index) => (c"cuda", format!("cuda:{index}")),
            _ => (c"cpu", "cpu".to_owned()),
        };
        let (library, folder, device) = (c_path(library)?, c_path(folder)?, c_text(&device)?);
        let mut runner = std::ptr::null_mut();
        check(|error| {
            // SAFETY: all texts end with a NUL and outlive the call.
            runner = unsafe {
                darkroom_load_package(
                    library.as_ptr(),
                    kind.as_ptr(),
                    device.as_ptr(),
                    folder.as_ptr(),
                    runners,
                    error,
                    ERROR_BYTES,
                )
            };
            !runner.is_null()
        })?;
        Ok(Self(NonNull::new(runner).expect("checked above")))
    }

    /// Runs one pass over `[n, 3, height, width]`.
    ///
    /// # Errors
    /// The compiled code failed. libtorch writes its reason to standard error only.
    pub(super) fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut output = std::ptr::null_mut();
        check(|error| {
            // SAFETY: the runner lives as long as `self`, and the tensor outlives the call.
            output = unsafe {
                darkroom_run_package(self.0.as_ptr(), input.as_ptr().cast(), error, ERROR_BYTES)
            };
            !output.is_null()
        })?;
        // SAFETY: the pointer is a new tensor on the heap of libtorch, as `tch` expects and frees it.
        Ok(unsafe { Tensor::from_ptr(output.cast()) })
    }
}

impl Drop for CompiledModel {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `darkroom_load_package`, and nothing uses it any more.
        unsafe { darkroom_free_package(self.0.as_ptr()) }
    }
}

/// Unpacks the files of a package into `folder`: those of the model, and `darkroom.json` if the package has it.
///
/// # Errors
/// The file is not a zip of PyTorch, or `folder` has no room.
pub(super) fn unpack(path: &Path, folder: &Path) -> Result<(), TchError> {
    let (path, folder) = (c_path(path)?, c_path(folder)?);
    check(|error| {
        // SAFETY: all texts end with a NUL and outlive the call.
        unsafe {
            darkroom_unpack_package(
                path.as_ptr(),
                MODEL_PREFIX.as_ptr(),
                ABOUT_RECORD.as_ptr(),
                folder.as_ptr(),
                error,
                ERROR_BYTES,
            )
        }
    })
}

/// The version of this libtorch: `2.11.0`.
pub(super) fn libtorch_version() -> &'static str {
    // SAFETY: the function returns a constant that ends with a NUL.
    let version = unsafe { CStr::from_ptr(darkroom_libtorch_version()) };
    version.to_str().unwrap_or_default()
}

/// The compute capability of a GPU: 90 for 9.0. `None` if the driver does not tell.
pub(super) fn compute_capability(gpu: usize) -> Option<u16> {
    let gpu = c_int::try_from(gpu).ok()?;
    // SAFETY: the function takes no pointer.
    let capability = unsafe { darkroom_compute_capability(gpu) };
    u16::try_from(capability).ok().filter(|&known| known > 0)
}

fn c_path(path: &Path) -> Result<CString, TchError> {
    c_text(&path.to_string_lossy())
}

fn c_text(text: &str) -> Result<CString, TchError> {
    CString::new(text).map_err(|error| TchError::Torch(error.to_string()))
}
