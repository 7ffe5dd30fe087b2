//! What we need of libtorch and `tch` has no name for: `libtorch.cc`, made safe.
#![allow(unsafe_code)] // the functions throw nothing, and end `why` with a NUL within its bytes

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use tch::{CModule, TchError, Tensor};

/// Of the reason why not; the rest is cut off.
const WHY_BYTES: usize = 400;

unsafe extern "C" {
    fn darkroom_optimize(
        module: *mut c_void,
        method: *const c_char,
        on_gpu: bool,
        why: *mut c_char,
        why_bytes: usize,
    ) -> bool;
    fn darkroom_use_stream(gpu: c_int, number: usize, why: *mut c_char, why_bytes: usize) -> bool;
    fn darkroom_pinned(bytes: i64, why: *mut c_char, why_bytes: usize) -> *mut c_void;
}

// In `tch`, pinned exactly, a module is one pointer that it keeps to itself.
const _: () = assert!(size_of::<CModule>() == size_of::<*mut c_void>());

/// What does the same in `method`, laid out for its device; other methods may be gone.
pub(super) fn optimize(
    mut module: CModule,
    method: &str,
    on_gpu: bool,
) -> Result<CModule, TchError> {
    let method = CString::new(method).map_err(|error| TchError::Torch(error.to_string()))?;
    done(|why| {
        // SAFETY: by the assertion above the module is its pointer, and nobody else has it.
        unsafe {
            let pointer = std::ptr::from_mut(&mut module).cast::<*mut c_void>().read();
            darkroom_optimize(pointer, method.as_ptr(), on_gpu, why, WHY_BYTES)
        }
    })?;
    Ok(module)
}

/// From here on the calling thread's work on this GPU runs beside that of threads with other numbers.
pub(super) fn use_stream(gpu: usize, number: usize) -> Result<(), TchError> {
    let gpu = c_int::try_from(gpu).unwrap_or(c_int::MAX);
    // SAFETY: takes no pointer but `why`.
    done(|why| unsafe { darkroom_use_stream(gpu, number, why, WHY_BYTES) })
}

/// `u8[bytes]`, uninitialized, in memory that a GPU reads by itself.
pub(super) fn pinned(bytes: i64) -> Result<Tensor, TchError> {
    let mut tensor = std::ptr::null_mut();
    done(|why| {
        // SAFETY: takes no pointer but `why`.
        tensor = unsafe { darkroom_pinned(bytes, why, WHY_BYTES) };
        !tensor.is_null()
    })?;
    // SAFETY: a tensor of its own on libtorch's heap, as `tch` keeps and frees them.
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}

fn done(mut call: impl FnMut(*mut c_char) -> bool) -> Result<(), TchError> {
    let mut why = [0; WHY_BYTES];
    if call(why.as_mut_ptr()) {
        return Ok(());
    }
    // SAFETY: see above.
    let why = unsafe { CStr::from_ptr(why.as_ptr()) };
    Err(TchError::Torch(why.to_string_lossy().into_owned()))
}
