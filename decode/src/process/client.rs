//! The parent's side of a decoder: starts it, asks for images, checks what it answers, and starts it again when it has ended.

use std::{path::PathBuf, time::Duration};

use super::{
    KEPT_BYTES_MAX,
    child::RunningDecoder,
    end::{End, Unavailable},
    messages::{Answer, Request, shorten},
    shared_memory::SharedMemory,
};
use crate::{self as decode, Format, Header, Limits, Refusal, Warning};

/// Starts for one image at most. More mean that something kills every decoder.
const STARTS_MAX: usize = 4;

/// The settings of a decoder.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program: `darkroom-decoder` of the version of this crate.
    pub program: PathBuf,
    pub limits: Limits,
    /// Most bytes of an encoded image.
    pub image_bytes_max: usize,
    /// CPU time for one image.
    pub cpu_max: Duration,
    /// Is told each time that a decoder has ended. The next image gets a new decoder.
    pub on_end: fn(&End),
}

/// Why an image was not decoded.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No later try can succeed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The decoder ended over the image. After [`End::Killed`] a later try may succeed; otherwise the image is the cause.
    #[error(transparent)]
    Ended(End),
    /// No decoder could be started. The image is not the cause.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A decoder of one thread, in a process of its own that is started again when it has ended.
///
/// A thread keeps its own decoder: the kernel kills the process when the thread ends that started it.
#[derive(Debug)]
pub struct DecoderProcess {
    settings: Settings,
    memory: SharedMemory,
    running: Option<RunningDecoder>,
}

impl DecoderProcess {
    /// A decoder that is not running yet.
    ///
    /// # Errors
    /// The system cannot share memory.
    pub fn new(settings: Settings) -> Result<Self, Unavailable> {
        let pixel_bytes_max = settings.limits.pixels_max.saturating_mul(3).max(1);
        let pixel_bytes_max = usize::try_from(pixel_bytes_max).unwrap_or(usize::MAX);
        let memory = SharedMemory::new(settings.image_bytes_max.max(1), pixel_bytes_max)?;
        Ok(Self {
            settings,
            memory,
            running: None,
        })
    }

    /// A running decoder.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(settings: Settings) -> Result<Self, Unavailable> {
        let mut decoder = Self::new(settings)?;
        decoder.ensure_running()?;
        Ok(decoder)
    }

    /// Starts the process if it is not running.
    pub fn ensure_running(&mut self) -> Result<(), Unavailable> {
        self.running().map(drop)
    }

    fn running(&mut self) -> Result<&mut RunningDecoder, Unavailable> {
        let running = if let Some(running) = self.running.take() {
            running
        } else {
            let settings = &self.settings;
            RunningDecoder::start(&settings.program, &settings.limits, &self.memory)?
        };
        Ok(self.running.insert(running))
    }

    /// Process id of the running decoder.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(RunningDecoder::pid)
    }

    /// Decodes an image whose header was read from `bytes`: see [`decode`](crate::decode).
    ///
    /// An image whose decoder was killed from outside is decoded again, once.
    ///
    /// # Errors
    /// See [`Failure`]. The decoder can be used again after every error.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        header: &Header,
        decode::Request { scale_min, color }: decode::Request,
    ) -> Result<Pixels<'_>, Failure> {
        let limits = &self.settings.limits;
        limits.check(header)?;
        limits.check_bytes(header.decode_bytes(scale_min))?;
        if bytes.len() > self.memory.image_bytes_max() {
            let bytes_max = self.memory.image_bytes_max();
            let detail = format!("the image has more than {bytes_max} bytes");
            return Err(Refusal::undecodable(detail).into());
        }
        self.memory.write_image(bytes).map_err(Unavailable::from)?;
        let request = Request {
            image_bytes: bytes.len(),
            scale_min,
            color,
        };
        let answer = self.ask(request, header);
        if bytes.len() > KEPT_BYTES_MAX {
            drop(self.memory.free_image()); // fails only if the system cannot make holes in files
        }
        let (width, height, warnings) = answer?;
        Ok(Pixels {
            memory: &self.memory,
            width,
            height,
            warnings,
        })
    }

    fn ask(
        &mut self,
        request: Request,
        header: &Header,
    ) -> Result<(u32, u32, Vec<Warning>), Failure> {
        let mut is_second_try = false;
        for _ in 0..STARTS_MAX {
            let cpu_max = self.settings.cpu_max;
            let end = match self.running()?.ask(request, cpu_max) {
                Ok(Answer::Decoded {
                    width,
                    height,
                    mut warnings,
                }) if self.is_possible((width, height), header, request.scale_min) => {
                    warnings.sort_unstable();
                    warnings.dedup();
                    return Ok((width, height, warnings));
                }
                Ok(Answer::Refused {
                    reason,
                    detail,
                    cause,
                }) => {
                    let refusal = Refusal::new(reason, shorten(&detail));
                    return Err(match cause {
                        Some(cause) => refusal.caused_by(shorten(&cause)),
                        None => refusal,
                    }
                    .into());
                }
                Ok(answer) => End::WrongAnswer(shorten(&format!("{answer:?}"))),
                Err(end) => end,
            };
            self.clean_up();
            (self.settings.on_end)(&end);
            match end {
                End::EndedIdle(_) => {}
                End::Killed if !is_second_try => is_second_try = true,
                end => return Err(Failure::Ended(end)),
            }
        }
        Err(Failure::Ended(End::Killed))
    }

    /// Whether an image with this header can have so many pixels at a scale that was allowed.
    fn is_possible(&self, size: (u32, u32), header: &Header, scale_min: f64) -> bool {
        let (width, height) = header.upright_size();
        let scaled = |side: u32, eighths: u32| (u64::from(side) * u64::from(eighths)).div_ceil(8);
        let is_whole = size == (width, height);
        let is_scaled = header.format == Format::Jpeg
            && (1..8).any(|eighths| {
                f64::from(eighths) / 8.0 >= scale_min
                    && u64::from(size.0) == scaled(width, eighths)
                    && u64::from(size.1) == scaled(height, eighths)
            });
        let pixels = u64::from(size.0) * u64::from(size.1);
        (is_whole || is_scaled) && pixels <= self.memory.pixel_bytes_max() as u64 / 3
    }

    /// Removes a decoder that ended. It may have written to any part of the shared memory.
    fn clean_up(&mut self) {
        self.running = None; // kills the process if it runs
        // Fails only if the system cannot make holes in files. Then the pages stay until the next image needs them.
        drop(self.memory.free_pixels());
    }
}

/// The pixels of a decoded image, in the memory that is shared with the decoder.
#[derive(Debug)]
pub struct Pixels<'a> {
    memory: &'a SharedMemory,
    pub width: u32,
    pub height: u32,
    /// What is wrong with the file, in the order of the codes, each code once.
    pub warnings: Vec<Warning>,
}

impl Pixels<'_> {
    /// RGB, 3 bytes for each pixel, row by row.
    pub fn rgb(&self) -> &[u8] {
        self.memory.pixels(self.bytes())
    }

    fn bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }
}

impl Drop for Pixels<'_> {
    fn drop(&mut self) {
        // Otherwise the memory of a huge image would stay as long as the thread.
        if self.bytes() > KEPT_BYTES_MAX {
            drop(self.memory.free_pixels());
        }
    }
}
