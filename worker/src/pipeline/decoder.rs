//! The decoder of one thread: a process of its own (docs/adr/0021-decoding-in-a-child.md), or the thread itself.

use decode::{
    Decoded, Header, Limits, Reason, Refusal, Request, Warning, catch_panics, resample::RgbView,
};
use jobs::{ProblemCode, job::StageError};
#[cfg(target_os = "linux")]
use {
    crate::{backoff::Backoff, drain::Phase},
    anyhow::Context as _,
    decode::process::{self, DecoderProcess, End, Failure, Pixels},
    std::time::{Duration, Instant},
    tokio::runtime::Handle,
};

use super::attempt::Outcome;
use crate::{
    config::{Config, DecodeIn},
    drain::Drain,
};

/// Most bytes of pixels that a thread keeps for its next image. A photo, scaled for a model, needs less.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// The worker ends with an error when it could not start a decoder for this time.
#[cfg(target_os = "linux")]
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);

/// The limits of one image, from the settings.
pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        pixels_max: config.limits.image_pixels_max,
        side_px_max: config.limits.image_side_px_max,
        bytes_max: config.limits.decode_bytes_max,
        formats: config.limits.formats.clone(),
    }
}

/// The decoder of one thread.
#[derive(Debug)]
pub(super) enum Decoder {
    /// A process of its own.
    #[cfg(target_os = "linux")]
    Process(Box<DecoderProcess>, Handle),
    /// The thread itself.
    Thread {
        limits: Limits,
        /// The memory of the pixels of the last image.
        memory: Vec<u8>,
    },
}

impl Decoder {
    /// Decoders for `threads` threads. None of them runs yet, but the settings were tried.
    ///
    /// # Errors
    /// No decoder can be started with these settings.
    pub(super) fn for_threads(config: &Config, threads: usize) -> anyhow::Result<Vec<Self>> {
        match config.decoding.decode_in {
            DecodeIn::Thread => {
                let decoder = || Self::Thread {
                    limits: limits(config),
                    memory: Vec::new(),
                };
                Ok((0..threads).map(|_| decoder()).collect())
            }
            #[cfg(target_os = "linux")]
            DecodeIn::Process => Self::processes(config, threads),
            #[cfg(not(target_os = "linux"))]
            DecodeIn::Process => anyhow::bail!(
                "decoding in a process of its own needs Linux; use --decode-in thread"
            ),
        }
    }

    #[cfg(target_os = "linux")]
    fn processes(config: &Config, threads: usize) -> anyhow::Result<Vec<Self>> {
        let settings = process::Settings {
            program: config.decoder_program()?,
            limits: limits(config),
            image_bytes_max: usize::try_from(config.limits.image_bytes_max)
                .context("--image-bytes-max is too large for this machine")?,
            cpu_max: Duration::from_secs_f64(config.decoding.decode_seconds_max),
            on_end: report_end,
        };
        DecoderProcess::start(settings.clone()).with_context(|| {
            let program = settings.program.display();
            format!(
                "the decoder does not work; build {program} (deploy/local/build), or give --decoder PATH. \
                 With --decode-in thread the worker needs none, but a crash over an image ends the worker"
            )
        })?;
        let decoder = || {
            let process = DecoderProcess::new(settings.clone())?;
            anyhow::Ok(Self::Process(Box::new(process), Handle::current()))
        };
        (0..threads).map(|_| decoder()).collect()
    }

    /// Waits until the decoder runs: starts it if needed, again and again. Returns `false` if the worker drains first.
    ///
    /// The worker fails if no decoder starts for half a minute.
    pub(super) fn wait_until_running(&mut self, drain: &Drain) -> bool {
        match self {
            Self::Thread { .. } => true,
            #[cfg(target_os = "linux")]
            Self::Process(process, runtime) => {
                let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
                let began = Instant::now();
                while let Err(error) = process.ensure_running() {
                    let cause = format!("{:#}", anyhow::Error::from(error));
                    if began.elapsed() > UNAVAILABLE_MAX {
                        drain.fail(&format!("no decoder can be started: {cause}"));
                    } else {
                        tracing::warn!(error.cause = cause, "cannot start a decoder; trying again");
                    }
                    let is_draining = runtime.block_on(async {
                        tokio::select! {
                            () = drain.reached(Phase::Draining) => true,
                            () = backoff.sleep() => false,
                        }
                    });
                    if is_draining {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// Decodes an image whose header was read from `bytes`: see [`decode::decode`].
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        header: &Header,
        request: Request,
    ) -> Result<DecodedImage<'_>, Outcome> {
        match self {
            Self::Thread { limits, memory } => {
                let own = std::mem::take(memory);
                let decode = || decode::decode(bytes, header, request, limits, own);
                let decoded = catch_panics(decode).map_err(refused)?;
                Ok(DecodedImage::Own { decoded, memory })
            }
            #[cfg(target_os = "linux")]
            Self::Process(process, _) => {
                let pixels = process.decode(bytes, header, request);
                pixels.map(DecodedImage::Shared).map_err(outcome_of_failure)
            }
        }
    }
}

/// A decoded image, upright. A JPEG may be smaller than its full size.
#[derive(Debug)]
pub(super) enum DecodedImage<'a> {
    /// In the memory that the decoder shares.
    #[cfg(target_os = "linux")]
    Shared(Pixels<'a>),
    Own {
        decoded: Decoded,
        memory: &'a mut Vec<u8>,
    },
}

impl DecodedImage<'_> {
    pub(super) fn view(&self) -> RgbView<'_> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Shared(pixels) => RgbView {
                width: pixels.width,
                height: pixels.height,
                rgb: pixels.rgb(),
            },
            Self::Own { decoded, .. } => (&decoded.pixels).into(),
        }
    }

    /// Frees the memory for the next image. Returns what is wrong with the file.
    pub(super) fn finish(self) -> Vec<Warning> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Shared(mut pixels) => std::mem::take(&mut pixels.warnings),
            Self::Own { decoded, memory } => {
                let pixels = decoded.pixels.into_raw();
                // Otherwise the memory of a huge image would stay as long as the thread.
                if pixels.capacity() <= KEPT_BYTES_MAX {
                    *memory = pixels;
                }
                decoded.warnings
            }
        }
    }
}

/// The outcome of an attempt at an image that is refused.
pub(super) fn refused(refusal: Refusal) -> Outcome {
    let code = match refusal.reason {
        Reason::UnsupportedFormat => ProblemCode::UnsupportedMediaType,
        Reason::TooManyPixels => ProblemCode::ImageTooManyPixels,
        Reason::Undecodable => ProblemCode::ImageUndecodable,
    };
    let detail = refusal.detail.clone();
    Outcome::Fail(StageError::new(code, detail).caused_by(refusal))
}

#[cfg(target_os = "linux")]
fn outcome_of_failure(failure: Failure) -> Outcome {
    match failure {
        Failure::Refused(refusal) => refused(refusal),
        // An operator, or the system for want of memory. It happened twice, but the image need not be the cause.
        Failure::Ended(End::Killed) => Outcome::Retry(
            StageError::new(ProblemCode::Internal, "the decoder was killed twice")
                .caused_by(End::Killed),
        ),
        Failure::Ended(end) => {
            let detail = match end {
                End::TookTooLong(_) | End::Asleep(_) => "decoding the image takes too long",
                _ => "the image is damaged or of an unusual kind",
            };
            let error = StageError::new(ProblemCode::ImageUndecodable, detail);
            Outcome::Fail(error.caused_by(end))
        }
        Failure::Unavailable(error) => {
            let cause = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(
                error.cause = cause,
                "no decoder for an image; releasing its job"
            );
            Outcome::Release
        }
    }
}

/// Logs and counts the end of a decoder.
#[cfg(target_os = "linux")]
fn report_end(end: &End) {
    metrics::counter!("darkroom_decoder_restarts_total", "cause" => end.cause()).increment(1);
    tracing::warn!(decoder.end = end.cause(), error.cause = %end, "a decoder ended; the next image gets a new one");
}
