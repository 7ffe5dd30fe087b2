//! Safe wrapper of `jpeg.c`: decodes one JPEG with libjpeg-turbo, and tells what is wrong with the file.
#![allow(unsafe_code)] // jpeg.c keeps every error of libjpeg to itself, and writes only where it is told to

use std::{
    ffi::{CStr, c_void},
    marker::PhantomData,
    ptr::NonNull,
};

// For the linker: the crate contains libjpeg-turbo.
use turbojpeg_sys as _;

/// Most scans of a JPEG. Progressive photos have about ten, and each scan may process every pixel.
pub(super) const SCANS_MAX: u32 = 100;

/// What a decoder found so far. `darkroom_jpeg_report` in `jpeg.c`, which describes the fields.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub width: u32,
    pub height: u32,
    pub scaled_width: u32,
    pub scaled_height: u32,
    pub bits_per_sample: u32,
    pub channels: u32,
    // 0 or 1
    pub has_adobe_marker: u8,
    pub has_bad_header: u8,
    pub has_wrong_restarts: u8,
    pub has_stray_bytes: u8,
    pub misses_end: u8,
    pub dc_steps: [u16; 4],
    whole_bytes: usize,
    error: [u8; 200],
}

const _: () = assert!(size_of::<Report>() == 248); // as in C

unsafe extern "C" {
    fn darkroom_jpeg_open(
        bytes: *const u8,
        length: usize,
        eighths: u32,
        scans_max: u32,
        report: *mut Report,
    ) -> *mut c_void;
    fn darkroom_jpeg_read(
        decoder: *mut c_void,
        pixels: *mut u8,
        size: usize,
        report: *mut Report,
    ) -> u8;
    fn darkroom_jpeg_close(decoder: *mut c_void);
}

impl Report {
    const EMPTY: Self = Self {
        width: 0,
        height: 0,
        scaled_width: 0,
        scaled_height: 0,
        bits_per_sample: 0,
        channels: 0,
        has_adobe_marker: 0,
        has_bad_header: 0,
        has_wrong_restarts: 0,
        has_stray_bytes: 0,
        misses_end: 0,
        dc_steps: [0; 4],
        whole_bytes: 0,
        error: [0; 200],
    };

    pub(super) fn scaled_pixels(&self) -> usize {
        self.scaled_width as usize * self.scaled_height as usize
    }

    fn failure(&self) -> Failure {
        let error = CStr::from_bytes_until_nul(&self.error).unwrap_or_default();
        Failure {
            error: error.to_string_lossy().into_owned(),
            whole_bytes: self.whole_bytes,
        }
    }
}

/// Why a decoder gave up.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error of libjpeg, for the log.
    pub error: String,
    /// All scans of the image are in this many first bytes of the file. 0: not known.
    pub whole_bytes: usize,
}

/// The decode of one JPEG, whose header has been read.
pub(super) struct Decoder<'a> {
    pointer: NonNull<c_void>,
    report: Report,
    /// libjpeg keeps a pointer to the bytes.
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Decoder<'a> {
    /// Reads the header of a JPEG that is to be decoded at `eighths` / 8 of its size: 1, 2, 4 or 8.
    pub(super) fn open(bytes: &'a [u8], eighths: u32) -> Result<Self, Failure> {
        let mut report = Report::EMPTY;
        // SAFETY: `bytes` outlives the decoder, by the lifetime. `report` is as large as in C, and only used for the call.
        let pointer = unsafe {
            let (start, length) = (bytes.as_ptr(), bytes.len());
            darkroom_jpeg_open(start, length, eighths, SCANS_MAX, &raw mut report)
        };
        let pointer = NonNull::new(pointer).ok_or_else(|| report.failure())?;
        Ok(Self {
            pointer,
            report,
            bytes: PhantomData,
        })
    }

    /// As [`Decoder::open`], for the DC picture: 128 and an eighth of the DC coefficient of each block, not dequantized, in
    /// the colors of the file.
    pub(super) fn open_dc_picture(bytes: &'a [u8]) -> Result<Self, Failure> {
        Self::open(bytes, 0)
    }

    /// What the header says.
    pub(super) fn header(&self) -> &Report {
        &self.report
    }

    /// Decodes all pixels, row by row, to the start of `pixels`. Fails if any are missing.
    pub(super) fn read(mut self, pixels: &mut [u8]) -> Result<Report, Failure> {
        // SAFETY: the decoder is open, and is read once, because this method consumes it. C writes to `pixels` only after it
        // has checked that all rows fit, and writes nowhere else but to `report`.
        let is_whole = unsafe {
            let (decoder, report) = (self.pointer.as_ptr(), &raw mut self.report);
            darkroom_jpeg_read(decoder, pixels.as_mut_ptr(), pixels.len(), report)
        };
        if is_whole == 1 {
            Ok(self.report)
        } else {
            Err(self.report.failure())
        }
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        // SAFETY: the pointer is of an open decoder, and nothing uses it after the drop.
        unsafe { darkroom_jpeg_close(self.pointer.as_ptr()) }
    }
}
