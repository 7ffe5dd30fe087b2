//! Turns the bytes of an image into upright RGB pixels. Pure: no I/O, no clock, no device. Only [`process`] has these: it
//! decodes in a process of its own.
//!
//! The API reads the [`Header`] of an image at submit, and the worker reads it again before it decodes: one parser for both.
//! The header says what a decode costs, so both sides refuse an image before anything is allocated. Decoders trust their
//! input: a JPEG of 631 bytes once allocated 12.9 GB and ended the process (docs/adr/0005-decoding.md).
//!
//! An image whose every pixel can be decoded is accepted. What is wrong with its file is a [`Warning`]. An image with missing
//! pixels is refused: most decoders would return a half-gray picture, and the model would predict the gray.

mod bmp;
mod color;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz_targets;
mod gif;
mod header;
mod heif;
mod jpeg;
mod jxl;
mod limits;
#[cfg(test)]
mod mutations;
mod on_white;
mod panics;
mod pixels;
mod png;
#[cfg(target_os = "linux")]
pub mod process;
mod refusal;
pub mod resample;
#[cfg(test)]
mod tests;
mod tiff;
#[cfg(test)]
mod twins;
mod warning;
mod webp;

pub use self::{
    color::Color,
    format::Format,
    header::{Header, Layout},
    heif::{MissingLibrary, preload},
    limits::Limits,
    panics::catch_panics,
    pixels::{Decoded, Request, decode},
    refusal::{Reason, Refusal},
    warning::Warning,
};
