//! libheif, loaded while the program runs: only installations that decode HEIC or AVIF need the library.
//!
//! The declarations follow the public header of libheif 1.15 (Debian 12) and 1.23 (Debian 13). Both keep the library's name
//! `libheif.so.1` and every function and field that is used here.
#![allow(unsafe_code, reason = "a C library has to be called")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    marker::PhantomData,
    ptr::{self, NonNull},
    slice,
    sync::OnceLock,
};

use super::coded_size::Codec;

const FILE_NAME: &str = "libheif.so.1";

// Values of the enumerations of libheif.
const COLORSPACE_RGB: c_int = 1;
const CHROMA_INTERLEAVED_RGB: c_int = 10;
const CHROMA_INTERLEAVED_RGBA: c_int = 11;
const CHANNEL_INTERLEAVED: c_int = 10;
const COMPRESSION_HEVC: c_int = 1;
const COMPRESSION_AV1: c_int = 4;

/// `struct heif_error`. The message belongs to libheif and lives as long as the library.
#[repr(C)]
#[derive(Debug)]
struct RawError {
    code: c_int,
    subcode: c_int,
    message: *const c_char,
}

/// The beginning of `struct heif_decoding_options`, as far as it has been since version 3 of the struct (libheif 1.13). libheif
/// allocates the struct, so later fields need no declaration.
#[repr(C)]
#[derive(Debug)]
struct RawOptions {
    version: u8,
    ignore_transformations: u8,
    start_progress: *const c_void,
    on_progress: *const c_void,
    end_progress: *const c_void,
    progress_user_data: *const c_void,
    convert_hdr_to_8bit: u8,
    strict_decoding: u8,
}

/// Types that are only seen behind a pointer.
#[derive(Debug)]
enum RawContext {}
#[derive(Debug)]
enum RawHandle {}
#[derive(Debug)]
enum RawImage {}

/// Declares a struct of C functions, and how these are looked up in a library by their names.
macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[derive(Debug)]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// # Safety
            /// The functions of the library have these signatures, and the library is never unloaded.
            unsafe fn look_up(library: &libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: as the caller promises.
                    $($name: unsafe { *library.get(stringify!($name))? },)*
                })
            }
        }
    };
}

functions! {
    heif_init(*mut c_void) -> RawError;
    heif_have_decoder_for_format(c_int) -> c_int;
    heif_context_alloc() -> *mut RawContext;
    heif_context_free(*mut RawContext);
    heif_context_set_max_decoding_threads(*mut RawContext, c_int);
    heif_context_set_maximum_image_size_limit(*mut RawContext, c_int);
    heif_context_read_from_memory_without_copy(*mut RawContext, *const c_void, usize, *const c_void) -> RawError;
    heif_context_get_primary_image_handle(*mut RawContext, *mut *mut RawHandle) -> RawError;
    heif_image_handle_release(*mut RawHandle);
    heif_image_handle_has_alpha_channel(*const RawHandle) -> c_int;
    heif_image_handle_is_premultiplied_alpha(*const RawHandle) -> c_int;
    heif_decoding_options_alloc() -> *mut RawOptions;
    heif_decoding_options_free(*mut RawOptions);
    heif_decode_image(*const RawHandle, *mut *mut RawImage, c_int, c_int, *const RawOptions) -> RawError;
    heif_image_get_decoding_warnings(*mut RawImage, c_int, *mut RawError, c_int) -> c_int;
    heif_image_get_width(*const RawImage, c_int) -> c_int;
    heif_image_get_height(*const RawImage, c_int) -> c_int;
    heif_image_get_plane_readonly(*const RawImage, c_int, *mut c_int) -> *const u8;
    heif_image_release(*mut RawImage);
}

/// An error or a warning of libheif.
#[derive(Debug, thiserror::Error)]
#[error("libheif: {message} (code {code}.{subcode})")]
pub(crate) struct LibraryError {
    code: c_int,
    subcode: c_int,
    message: String,
}

impl LibraryError {
    /// The image needs more memory than is allowed.
    pub fn is_about_memory(&self) -> bool {
        const MEMORY_ALLOCATION_ERROR: c_int = 6;
        const SECURITY_LIMIT_EXCEEDED: c_int = 1000;
        self.code == MEMORY_ALLOCATION_ERROR || self.subcode == SECURITY_LIMIT_EXCEEDED
    }

    /// The description of the colors makes no sense. No pixels are missing.
    pub fn is_about_colors(&self) -> bool {
        const UNKNOWN_COLOR_PROFILE: c_int = 126;
        const UNKNOWN_PRIMARIES_TRANSFER_OR_MATRIX: std::ops::RangeInclusive<c_int> = 133..=135;
        self.subcode == UNKNOWN_COLOR_PROFILE
            || UNKNOWN_PRIMARIES_TRANSFER_OR_MATRIX.contains(&self.subcode)
    }
}

impl RawError {
    const NONE: Self = Self {
        code: 0,
        subcode: 0,
        message: ptr::null(),
    };

    fn into_error(self) -> LibraryError {
        let message = if self.message.is_null() {
            "no message".into()
        } else {
            // SAFETY: a message is a string that ends with 0 and that libheif does not change.
            unsafe { CStr::from_ptr(self.message) }.to_string_lossy()
        };
        LibraryError {
            code: self.code,
            subcode: self.subcode,
            message: message.into_owned(),
        }
    }

    fn into_result(self) -> Result<(), LibraryError> {
        if self.code == 0 {
            Ok(())
        } else {
            Err(self.into_error())
        }
    }
}

/// The library, loaded once and never unloaded.
#[derive(Debug)]
pub(crate) struct Libheif(Functions);

impl Libheif {
    /// The library. The first call loads it with its plugins, so it reads files and may not happen in a sandbox.
    ///
    /// # Errors
    /// The library is not installed, or too old. The text says why.
    pub fn get() -> Result<&'static Self, &'static str> {
        static LIBHEIF: OnceLock<Result<Libheif, String>> = OnceLock::new();
        let loaded = LIBHEIF.get_or_init(|| Self::load().map_err(|error| error.to_string()));
        loaded.as_ref().map_err(String::as_str)
    }

    fn load() -> Result<Self, Box<dyn std::error::Error>> {
        // SAFETY: the constructors of libheif and its codecs have no demands.
        let library = unsafe { libloading::Library::new(FILE_NAME)? };
        // SAFETY: the signatures are those of the public header, and the library is leaked on the next line.
        let functions = unsafe { Functions::look_up(&library)? };
        std::mem::forget(library);
        // SAFETY: no parameters are needed. Loads the plugins.
        unsafe { (functions.heif_init)(ptr::null_mut()) }.into_result()?;
        Ok(Self(functions))
    }

    pub fn has_decoder(&self, codec: Codec) -> bool {
        let compression = match codec {
            Codec::Hevc => COMPRESSION_HEVC,
            Codec::Av1 => COMPRESSION_AV1,
        };
        // SAFETY: any value is allowed.
        unsafe { (self.0.heif_have_decoder_for_format)(compression) != 0 }
    }

    /// Reads the header of a file. No image in the file may have more pixels than a square with sides of `side_px_max`.
    ///
    /// # Errors
    /// The file is broken, or an image is too large.
    pub fn open<'a>(
        &'a self,
        file: &'a [u8],
        side_px_max: u32,
    ) -> Result<PrimaryImage<'a>, LibraryError> {
        let f = &self.0;
        // SAFETY: the context outlives every use, and is freed once, when `context` is dropped. The bytes of the file live as
        // long as the image, which keeps the context.
        unsafe {
            let context = (f.heif_context_alloc)();
            let context = Owned::new(context, f.heif_context_free)?;
            let side = c_int::try_from(side_px_max).unwrap_or(c_int::MAX);
            (f.heif_context_set_maximum_image_size_limit)(context.pointer(), side);
            // 0 means: no threads beside this one. A codec may start some all the same.
            (f.heif_context_set_max_decoding_threads)(context.pointer(), 0);
            (f.heif_context_read_from_memory_without_copy)(
                context.pointer(),
                file.as_ptr().cast(),
                file.len(),
                ptr::null(),
            )
            .into_result()?;
            let mut handle = ptr::null_mut();
            (f.heif_context_get_primary_image_handle)(context.pointer(), &raw mut handle)
                .into_result()?;
            Ok(PrimaryImage {
                functions: f,
                handle: Owned::new(handle, f.heif_image_handle_release)?,
                _context: context,
                _file: PhantomData,
            })
        }
    }
}

/// An object of libheif that is freed when the value is dropped.
#[derive(Debug)]
struct Owned<T> {
    object: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Errors
    /// There is no object: libheif had no memory.
    ///
    /// # Safety
    /// The object may be freed with `free`, and nothing else frees it.
    unsafe fn new(
        object: *mut T,
        free: unsafe extern "C" fn(*mut T),
    ) -> Result<Self, LibraryError> {
        const NO_MEMORY: RawError = RawError {
            code: 6,
            ..RawError::NONE
        };
        let object = NonNull::new(object).ok_or_else(|| NO_MEMORY.into_error())?;
        Ok(Self { object, free })
    }

    fn pointer(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: as the caller of `new` promised.
        unsafe { (self.free)(self.pointer()) }
    }
}

/// The image that a viewer shows.
#[derive(Debug)]
pub(crate) struct PrimaryImage<'a> {
    functions: &'a Functions,
    handle: Owned<RawHandle>,
    // Freed after the handle.
    _context: Owned<RawContext>,
    _file: PhantomData<&'a [u8]>,
}

impl<'a> PrimaryImage<'a> {
    pub fn has_alpha(&self) -> bool {
        // SAFETY: the handle is alive.
        unsafe { (self.functions.heif_image_handle_has_alpha_channel)(self.handle.pointer()) != 0 }
    }

    /// The colors are already multiplied with alpha.
    pub fn is_premultiplied(&self) -> bool {
        let is_premultiplied = self.functions.heif_image_handle_is_premultiplied_alpha;
        // SAFETY: the handle is alive.
        unsafe { is_premultiplied(self.handle.pointer()) != 0 }
    }

    /// Decodes the pixels: upright, 8 bits, RGB, or RGBA if the image has alpha.
    ///
    /// # Errors
    /// The image is damaged, or takes more memory than is allowed.
    pub fn decode(&self) -> Result<Picture<'a>, LibraryError> {
        let f = self.functions;
        let (chroma, channels) = if self.has_alpha() {
            (CHROMA_INTERLEAVED_RGBA, 4)
        } else {
            (CHROMA_INTERLEAVED_RGB, 3)
        };
        // SAFETY: the handle is alive. Options and image are freed once. libheif allocated the options with all fields that
        // `RawOptions` declares: every version since 1.13 has these.
        unsafe {
            let options = (f.heif_decoding_options_alloc)();
            let options = Owned::new(options, f.heif_decoding_options_free)?;
            (*options.pointer()).convert_hdr_to_8bit = 1;
            let mut image = ptr::null_mut();
            (f.heif_decode_image)(
                self.handle.pointer(),
                &raw mut image,
                COLORSPACE_RGB,
                chroma,
                options.pointer(),
            )
            .into_result()?;
            let image = Owned::new(image, f.heif_image_release)?;
            let width = (f.heif_image_get_width)(image.pointer(), CHANNEL_INTERLEAVED);
            let height = (f.heif_image_get_height)(image.pointer(), CHANNEL_INTERLEAVED);
            Ok(Picture {
                functions: f,
                image,
                width: u32::try_from(width).unwrap_or(0),
                height: u32::try_from(height).unwrap_or(0),
                channels,
            })
        }
    }
}

/// Decoded pixels.
#[derive(Debug)]
pub(crate) struct Picture<'a> {
    functions: &'a Functions,
    image: Owned<RawImage>,
    pub width: u32,
    pub height: u32,
    /// 3, or 4 with alpha. One byte each.
    pub channels: usize,
}

impl Picture<'_> {
    /// The rows from the top, without the padding between them. None if libheif has no pixels.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let mut stride: c_int = 0;
        // SAFETY: the image is alive.
        let pixels = unsafe {
            (self.functions.heif_image_get_plane_readonly)(
                self.image.pointer(),
                CHANNEL_INTERLEAVED,
                &raw mut stride,
            )
        };
        let row_bytes = self.width as usize * self.channels;
        let stride = usize::try_from(stride).unwrap_or(0);
        let has_pixels = !pixels.is_null() && row_bytes <= stride;
        let rows = if has_pixels { self.height as usize } else { 0 };
        // SAFETY: the plane has `height` rows, each of `stride` bytes, and lives as long as the image.
        (0..rows)
            .map(move |row| unsafe { slice::from_raw_parts(pixels.add(row * stride), row_bytes) })
    }

    /// What libheif complained about while it decoded. The first hundred complaints at most.
    pub fn warnings(&self) -> Vec<LibraryError> {
        let mut warnings = Vec::new();
        for place in 0..100 {
            let mut warning = RawError::NONE;
            // SAFETY: the image is alive, and there is room for one warning.
            let count = unsafe {
                (self.functions.heif_image_get_decoding_warnings)(
                    self.image.pointer(),
                    place,
                    &raw mut warning,
                    1,
                )
            };
            if count < 1 {
                break;
            }
            warnings.push(warning.into_error());
        }
        warnings
    }
}
