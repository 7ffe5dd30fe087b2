//! Safe wrappers of `torchscript.cc`.
#![allow(unsafe_code)] // the functions throw nothing, and end `error` with a NUL within its bytes

use std::ffi::{CString, c_char, c_void};

use tch::{CModule, TchError};

use super::libtorch::{ERROR_BYTES, check};

unsafe extern "C" {
    fn darkroom_writes_attributes(
        module: *const c_void,
        method: *const c_char,
        writes: *mut bool,
        error: *mut c_char,
        error_bytes: usize,
    ) -> bool;
    fn darkroom_copy(module: *const c_void, error: *mut c_char, error_bytes: usize) -> *mut c_void;
}

// In the pinned version of `tch` a module is one private pointer.
const _: () = assert!(size_of::<CModule>() == size_of::<*mut c_void>());

/// Whether a method writes attributes of the module or of its parts.
pub(super) fn writes_attributes(module: &CModule, method: &str) -> Result<bool, TchError> {
    let method = CString::new(method).map_err(|error| TchError::Torch(error.to_string()))?;
    let mut writes = false;
    check(|error| {
        // SAFETY: the module lives as long as the call, and the function writes one `bool`.
        unsafe {
            let module = pointer(module);
            darkroom_writes_attributes(module, method.as_ptr(), &raw mut writes, error, ERROR_BYTES)
        }
    })?;
    Ok(writes)
}

/// Copies a module. The copy has its own attributes, and shares the tensors.
///
/// Two copies must not be made at the same time: both add types to the file's code.
pub(super) fn copy(module: &CModule) -> Result<CModule, TchError> {
    let mut copy = std::ptr::null_mut();
    check(|error| {
        // SAFETY: the module lives as long as the call.
        copy = unsafe { darkroom_copy(pointer(module), error, ERROR_BYTES) };
        !copy.is_null()
    })?;
    // SAFETY: by the assertion above a module is its pointer. This one is new, on the heap of C++, as `tch` frees it.
    Ok(unsafe { std::mem::transmute::<*mut c_void, CModule>(copy) })
}

fn pointer(module: &CModule) -> *const c_void {
    // SAFETY: by the assertion above the module is its pointer.
    unsafe { std::ptr::from_ref(module).cast::<*const c_void>().read() }
}
