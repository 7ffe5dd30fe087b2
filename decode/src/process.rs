//! Decoding in a process of its own (docs/adr/0021-decoding-in-a-child.md).
//!
//! Each thread that decodes owns a [`DecoderProcess`]: the parent's side of one child, the program `darkroom-decoder`. The
//! child decodes one image at a time. A crash, a hang or an intruder in a decoder costs the image in hand.
//!
//! - `messages`: a socket carries the settings, one request for each image, and the answers.
//! - `shared_memory`: the encoded image and the pixels lie in two sealed files in memory, which both sides map.
//! - `sandbox`: before its first image the child gives up all rights that decoding does not need.
//! - `serve`: the child's loop. `client` and `child`: the parent's side.

mod child;
mod client;
mod end;
mod messages;
mod sandbox;
mod serve;
mod shared_memory;

pub use self::{
    client::{DecoderProcess, Failure, Pixels, Settings},
    end::{End, Unavailable},
    serve::{EncodedImage, Written, decode_into, serve},
};

/// Bytes of memory that are kept for the next image. A photo, scaled for a model, needs less.
pub const KEPT_BYTES_MAX: usize = 16 << 20;
