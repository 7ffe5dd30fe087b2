//! The decoder's side: it gives up its rights, and then decodes one image after the other.

use std::{io::Cursor, os::fd::BorrowedFd, process::ExitCode};

use super::{
    KEPT_BYTES_MAX,
    messages::{Answer, Channel, Greeting, Request, shorten},
    sandbox::{self, Threads},
    shared_memory::MappedMemory,
};
use crate::{Format, Header, Limits, Refusal, Warning, catch_panics};

/// The image that a decoder is asked to decode.
#[derive(Debug, Clone, Copy)]
pub struct EncodedImage<'a> {
    pub bytes: &'a [u8],
    pub header: &'a Header,
    pub scale_min: f64,
    pub limits: &'a Limits,
}

/// A decoded image whose pixels are written: upright, RGB, 3 bytes each, from the start of the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub width: u32,
    pub height: u32,
    pub warnings: Vec<Warning>,
}

/// The loop of a decoder: the whole life of the program, which a worker starts.
///
/// `decode` gets an image and the memory for its pixels. It runs without the rights that `sandbox.rs` takes away.
pub fn serve(
    decode: impl FnMut(EncodedImage<'_>, &mut [u8]) -> Result<Written, Refusal>,
) -> ExitCode {
    let channel = Channel::of_stdin();
    match set_up(&channel) {
        Ok(Some(decoder)) => {
            decoder.decode_all(&channel, decode);
            ExitCode::SUCCESS
        }
        // The worker ended.
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            // A person who starts the program has no socket to read this from.
            let reason = shorten(&error.to_string());
            drop(channel.send(&Answer::CannotStart(reason)));
            ExitCode::FAILURE
        }
    }
}

fn set_up(
    channel: &Channel<BorrowedFd<'_>>,
) -> Result<Option<Decoder>, Box<dyn std::error::Error>> {
    sandbox::detach()?;
    let Some((greeting, files)) = channel.receive_with_files::<Greeting>()? else {
        return Ok(None);
    };
    let own_version = env!("CARGO_PKG_VERSION");
    if greeting.version != own_version {
        let worker = greeting.version;
        return Err(format!("it has version {own_version}, and the worker {worker}").into());
    }
    let memory = MappedMemory::map(files)?;
    let limits = greeting.limits;
    let threads = threads_for(&limits.formats);
    sandbox::limit_resources(limits.bytes_max, threads)?;
    sandbox::limit_system_calls(threads)
        .map_err(|error| format!("no filter of system calls (seccomp): {error}"))?;
    Ok(Some(Decoder { memory, limits }))
}

/// The decoders of libheif do not work without a thread of their own.
fn threads_for(formats: &[Format]) -> Threads {
    let needs_threads = |format: &Format| ["heic", "avif"].contains(&format.name());
    if formats.iter().any(needs_threads) {
        Threads::Allowed
    } else {
        Threads::Forbidden
    }
}

struct Decoder {
    memory: MappedMemory,
    limits: Limits,
}

impl Decoder {
    /// Returns when the worker has closed the socket.
    fn decode_all(
        mut self,
        channel: &Channel<BorrowedFd<'_>>,
        mut decode: impl FnMut(EncodedImage<'_>, &mut [u8]) -> Result<Written, Refusal>,
    ) {
        let mut sent = channel.send(&Answer::Ready);
        while sent.is_ok()
            && let Ok(Some(request)) = channel.receive::<Request>()
        {
            let mut bytes_taken = 0;
            let written = self.decode_one(request, &mut bytes_taken, &mut decode);
            let answer = match written {
                Ok(written) => Answer::Decoded {
                    width: written.width,
                    height: written.height,
                    warnings: written.warnings,
                },
                Err(refusal) => refusal.into(),
            };
            sent = channel.send(&answer);
            if bytes_taken > KEPT_BYTES_MAX as u64 {
                free_unused_heap();
            }
        }
    }

    /// Decodes one image into the shared memory. Sets `bytes_taken` to the memory that the decode may have taken.
    fn decode_one(
        &mut self,
        request: Request,
        bytes_taken: &mut u64,
        decode: &mut impl FnMut(EncodedImage<'_>, &mut [u8]) -> Result<Written, Refusal>,
    ) -> Result<Written, Refusal> {
        catch_panics(|| {
            let bytes = &self.memory.image[..request.image_bytes];
            let header = Header::read(Cursor::new(bytes), &self.limits)?;
            *bytes_taken = header.decode_bytes(request.scale_min);
            let image = EncodedImage {
                bytes,
                header: &header,
                scale_min: request.scale_min,
                limits: &self.limits,
            };
            decode(image, &mut self.memory.pixels)
        })
    }
}

/// Decodes an image into `pixels`: what the program `darkroom-decoder` does. `memory` is that of an earlier image.
///
/// # Errors
/// The refusal of [`decode`](crate::decode).
pub fn decode_into(
    image: EncodedImage<'_>,
    pixels: &mut [u8],
    memory: &mut Vec<u8>,
) -> Result<Written, Refusal> {
    let own = std::mem::take(memory);
    let decoded = crate::decode(
        image.bytes,
        image.header,
        image.scale_min,
        image.limits,
        own,
    )?;
    let (width, height) = decoded.pixels.dimensions();
    let rgb = decoded.pixels.into_raw();
    // The parent checks the size against the header, which the limits allow. So this cannot fail.
    let room = pixels.get_mut(..rgb.len());
    room.ok_or_else(|| Refusal::undecodable("the image is larger than its header says"))?
        .copy_from_slice(&rgb);
    if rgb.capacity() <= KEPT_BYTES_MAX {
        *memory = rgb;
    }
    Ok(Written {
        width,
        height,
        warnings: decoded.warnings,
    })
}

/// Gives the memory of a large image back to the system.
fn free_unused_heap() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: the function only reads and changes the state of the allocator.
    unsafe {
        libc::malloc_trim(0);
    }
}
