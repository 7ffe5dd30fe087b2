//! Safe wrappers of `libtorch.cc`: functions of libtorch that `tch` does not offer.
#![allow(unsafe_code)] // the functions throw nothing, and end `error` with a NUL within its bytes

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use tch::{CModule, Kind, TchError, Tensor};

/// Longest text of an error in bytes; a longer text is cut off.
pub(super) const ERROR_BYTES: usize = 400;
/// Longest name of an operator in bytes; a longer name is cut off.
const NAME_BYTES: usize = 100;

unsafe extern "C" {
    fn darkroom_optimize(
        module: *mut c_void,
        method: *const c_char,
        on_gpu: bool,
        error: *mut c_char,
        error_bytes: usize,
    ) -> bool;
    fn darkroom_cast_floats(
        module: *mut c_void,
        kind: c_int,
        error: *mut c_char,
        error_bytes: usize,
    ) -> bool;
    fn darkroom_training_operator(
        module: *const c_void,
        method: *const c_char,
        name: *mut c_char,
        name_bytes: usize,
        error: *mut c_char,
        error_bytes: usize,
    ) -> bool;
    fn darkroom_use_stream(
        gpu: c_int,
        number: usize,
        error: *mut c_char,
        error_bytes: usize,
    ) -> bool;
    fn darkroom_gpu_bytes(
        gpu: c_int,
        bytes: *mut i64,
        error: *mut c_char,
        error_bytes: usize,
    ) -> bool;
    fn darkroom_pinned(bytes: i64, error: *mut c_char, error_bytes: usize) -> *mut c_void;
}

// In the pinned version of `tch` a module is one private pointer.
const _: () = assert!(size_of::<CModule>() == size_of::<*mut c_void>());

/// Returns a module whose `method` computes the same, laid out for its device. Other methods may be missing in it.
pub(super) fn optimize(
    mut module: CModule,
    method: &str,
    on_gpu: bool,
) -> Result<CModule, TchError> {
    let method = name_of_method(method)?;
    let pointer = pointer_to(&mut module);
    // SAFETY: this function owns the module.
    check(|error| unsafe {
        darkroom_optimize(pointer, method.as_ptr(), on_gpu, error, ERROR_BYTES)
    })?;
    Ok(module)
}

/// Casts the floating-point parameters and buffers of the module to `kind`. All other tensors keep their type.
pub(super) fn cast_floats(module: &mut CModule, kind: Kind) -> Result<(), TchError> {
    let number = match kind {
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::BFloat16 => 15,
        other => return Err(TchError::Torch(format!("no cast to {other:?}"))),
    };
    let pointer = pointer_to(module);
    // SAFETY: the caller has the only reference to the module.
    check(|error| unsafe { darkroom_cast_floats(pointer, number, error, ERROR_BYTES) })
}

/// The name of an operator of `method` that works as in training, although the module is in evaluation mode. `None` if there
/// is none.
pub(super) fn training_operator(
    module: &CModule,
    method: &str,
) -> Result<Option<String>, TchError> {
    let method = name_of_method(method)?;
    let mut name = [0; NAME_BYTES];
    check(|error| {
        // SAFETY: by the assertion above the module is its pointer, and the function only reads the module.
        unsafe {
            let pointer = std::ptr::from_ref(module).cast::<*const c_void>().read();
            let name = name.as_mut_ptr();
            darkroom_training_operator(
                pointer,
                method.as_ptr(),
                name,
                NAME_BYTES,
                error,
                ERROR_BYTES,
            )
        }
    })?;
    // SAFETY: the function ends the name with a NUL within its bytes.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy();
    Ok((!name.is_empty()).then(|| name.into_owned()))
}

fn name_of_method(method: &str) -> Result<CString, TchError> {
    CString::new(method).map_err(|error| TchError::Torch(error.to_string()))
}

/// The module itself, as C++ knows it.
fn pointer_to(module: &mut CModule) -> *mut c_void {
    // SAFETY: by the assertion above the module is its pointer.
    unsafe { std::ptr::from_mut(module).cast::<*mut c_void>().read() }
}

/// From here on the work of the calling thread on this GPU runs on stream `number`. Streams run at the same time.
pub(super) fn use_stream(gpu: usize, number: usize) -> Result<(), TchError> {
    let gpu = c_int::try_from(gpu).unwrap_or(c_int::MAX);
    // SAFETY: the function takes no pointer but `error`.
    check(|error| unsafe { darkroom_use_stream(gpu, number, error, ERROR_BYTES) })
}

/// Bytes of the tensors that a GPU holds now for this process.
pub(super) fn gpu_bytes(gpu: usize) -> Result<u64, TchError> {
    let gpu = c_int::try_from(gpu).unwrap_or(c_int::MAX);
    let mut bytes = 0;
    // SAFETY: `bytes` lives longer than the call.
    check(|error| unsafe { darkroom_gpu_bytes(gpu, &raw mut bytes, error, ERROR_BYTES) })?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}

/// Allocates `u8[bytes]`, uninitialized, in pinned memory: a GPU reads it by itself.
pub(super) fn allocate_pinned(bytes: i64) -> Result<Tensor, TchError> {
    let mut tensor = std::ptr::null_mut();
    check(|error| {
        // SAFETY: the function takes no pointer but `error`.
        tensor = unsafe { darkroom_pinned(bytes, error, ERROR_BYTES) };
        !tensor.is_null()
    })?;
    // SAFETY: the pointer is a new tensor on the heap of libtorch, as `tch` expects and frees it.
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// Calls a function that fills `error`, of [`ERROR_BYTES`], if it returns `false`.
pub(super) fn check(mut call: impl FnMut(*mut c_char) -> bool) -> Result<(), TchError> {
    let mut error = [0; ERROR_BYTES];
    if call(error.as_mut_ptr()) {
        return Ok(());
    }
    // SAFETY: the functions end the text with a NUL within its bytes.
    let error = unsafe { CStr::from_ptr(error.as_ptr()) };
    Err(TchError::Torch(error.to_string_lossy().into_owned()))
}
