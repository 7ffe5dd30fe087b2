//! Every setting of a worker: flags, the same as environment variables, and their manual (`--help`).

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use image::ImageFormat;
use jobs::{db::DbConfig, object_store::StoreConfig};

use crate::{
    preemption::PreemptionConfig,
    torch::{DeviceChoice, PrecisionChoice},
};

/// Claims jobs, runs their models and writes the results. Start as many as you like, anywhere; end one at any time:
/// SIGTERM gives its jobs back at once, and those of a worker that was killed come back when its lease runs out.
#[derive(Debug, Clone, Parser)]
#[command(name = "darkroom-worker", version, max_term_width = 100)]
pub struct Config {
    #[command(flatten)]
    pub db: DbConfig,
    #[command(flatten)]
    pub store: StoreConfig,
    #[command(flatten)]
    pub limits: LimitsConfig,
    #[command(flatten)]
    pub tuning: TuningConfig,
    #[command(flatten)]
    pub end: EndConfig,
    #[command(flatten)]
    pub preemption: PreemptionConfig,
    /// Models to run, by name, separated by commas; any model if left out
    #[arg(long, env = "DARKROOM_MODELS", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Where to run them: `cpu`, `cuda:0`, … or `auto`, the first GPU if there is one
    #[arg(long, env = "DARKROOM_DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// `default`: the first that a model's manifest lists; `auto`: the fastest that it lists on this device; a fixed one
    /// where the manifest lists it. Lower precision changes scores a little: 3 of 40 photos got another label in bf16
    #[arg(long, env = "DARKROOM_PRECISION", default_value = "default")]
    pub precision: PrecisionChoice,
    /// What people call this worker; host name and process id if left out
    #[arg(long, env = "DARKROOM_WORKER_NAME")]
    pub name: Option<String>,
    /// How long the worker owns its jobs without a sign of life; it gives one three times as often
    #[arg(long, env = "DARKROOM_LEASE_SECONDS", default_value_t = 30.0, value_parser = seconds)]
    pub lease_seconds: f64,
    /// Longest time to finish what is on the device, in seconds, before that is given back too: after SIGTERM, SIGINT or a
    /// notice that the machine is taken away. What is not on the device goes back at once. A second signal ends at once
    #[arg(long, env = "DARKROOM_DRAIN_SECONDS", default_value_t = 20.0, value_parser = seconds)]
    pub drain_seconds: f64,
    /// Address of `/livez`, `/readyz` and `/metrics`
    #[arg(long, env = "DARKROOM_HEALTH_LISTEN", default_value = "127.0.0.1:9091")]
    pub health_listen: SocketAddr,
    /// Where model files are kept between starts [default: `darkroom/models` in the user's cache folder]
    #[arg(long, env = "DARKROOM_MODEL_CACHE_DIR")]
    pub model_cache_dir: Option<PathBuf>,
    /// Most bytes of model files to keep there; those not used for longest go first, none within an hour of its last use
    #[arg(long, env = "DARKROOM_MODEL_CACHE_BYTES_MAX", default_value_t = 20 << 30)]
    pub model_cache_bytes_max: u64,
    /// Largest result that is kept in the job's row, in bytes of JSON; a larger one becomes an object in the bucket
    #[arg(long, env = "DARKROOM_RESULT_INLINE_BYTES_MAX", default_value_t = 64 << 10)]
    pub result_inline_bytes_max: usize,
    /// Bytes of model files to keep loaded; the least recently used go first
    #[arg(long, env = "DARKROOM_LOADED_BYTES_MAX", default_value_t = 4 << 30)]
    pub loaded_bytes_max: u64,
}

/// What one image may cost.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits of an image")]
pub struct LimitsConfig {
    /// Bytes of an encoded image
    #[arg(long, env = "DARKROOM_IMAGE_BYTES_MAX", default_value_t = 20_000_000)]
    pub image_bytes_max: u64,
    /// Pixels, as its header says
    #[arg(long, env = "DARKROOM_IMAGE_PIXELS_MAX", default_value_t = 40_000_000)]
    pub image_pixels_max: u64,
    /// Pixels of a side
    #[arg(long, env = "DARKROOM_IMAGE_SIDE_PX_MAX", default_value_t = 12_000)]
    pub image_side_px_max: u32,
    /// Bytes that decoding one image may take
    #[arg(long, env = "DARKROOM_DECODE_BYTES_MAX", default_value_t = 512 << 20)]
    pub decode_bytes_max: u64,
    /// Types to decode, by their bytes, separated by commas; `bmp` and `tiff` are off unless named
    #[arg(
        long,
        env = "DARKROOM_FORMATS",
        value_delimiter = ',',
        default_value = "jpeg,png,webp,gif"
    )]
    pub formats: Vec<Format>,
}

/// When a worker ends by itself, with exit code 0: it claims no more, finishes what it has, and leaves.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Ending by itself")]
pub struct EndConfig {
    /// End after so long without a job, as `90s`, `10m` or `1h`: scale to zero without an orchestrator
    #[arg(long, env = "DARKROOM_MAX_IDLE", value_name = "DURATION", value_parser = duration)]
    pub max_idle: Option<Duration>,
    /// End after so many jobs, and never claim more: for schedulers that want bounded pieces of work. Counts what was
    /// claimed, whatever became of it
    #[arg(long, env = "DARKROOM_MAX_JOBS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_jobs: Option<u64>,
    /// Work off what is queued, then end: for batch schedulers. Jobs that are planned for later, or that others hold, are
    /// not waited for
    #[arg(long, env = "DARKROOM_DRAIN")]
    pub drain: bool,
}

/// How wide each stage is. The defaults follow the machine.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Pipeline")]
pub struct TuningConfig {
    /// Most images of one forward pass; the manifest and the warm-up may say less [default: 8 on a CPU, 64 on a GPU]
    #[arg(long, env = "DARKROOM_BATCH_MAX", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch_max: Option<u16>,
    /// How long an image may wait for company while the device is busy anyway [default: 0 on a CPU, 2 on a GPU]
    #[arg(long, env = "DARKROOM_BATCH_WAIT_MS")]
    pub batch_wait_ms: Option<u64>,
    /// Threads that decode and preprocess [default: one a core]
    #[arg(long, env = "DARKROOM_DECODE_THREADS", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub decode_threads: Option<u16>,
    /// Threads that run models [default: one a core on a CPU, each with one libtorch thread; 2 on a GPU: one batch
    /// computes while the other is copied]
    #[arg(long, env = "DARKROOM_INFER_THREADS", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub infer_threads: Option<u16>,
    /// Most jobs held at once, from claim to written result [default: 4 batches for each inference thread]
    #[arg(long, env = "DARKROOM_CLAIM_AHEAD", value_parser = clap::value_parser!(u16).range(1..=8192))]
    pub claim_ahead: Option<u16>,
    /// Images fetched from S3 at the same time; and as many results stored
    #[arg(long, env = "DARKROOM_FETCH_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub fetch_concurrency: u16,
    /// How long a result may wait for others to share its statement, while others are on their way; at least
    /// 200 while more than an eighth of `--claim-ahead` is in hand
    #[arg(long, env = "DARKROOM_COMPLETE_WAIT_MS", default_value_t = 10)]
    pub complete_wait_ms: u64,
    /// How often to look for jobs when no wake-up comes
    #[arg(long, env = "DARKROOM_POLL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub poll_ms: u64,
}

/// A type of image that may be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Jpeg,
    Png,
    Webp,
    Gif,
    Bmp,
    Tiff,
}

impl From<Format> for ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Jpeg => Self::Jpeg,
            Format::Png => Self::Png,
            Format::Webp => Self::WebP,
            Format::Gif => Self::Gif,
            Format::Bmp => Self::Bmp,
            Format::Tiff => Self::Tiff,
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("want seconds between 0.1 and 86400".into()),
    }
}

/// `90s`, `10m`, `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        Ok(_) => Err("want more than nothing".into()),
        Err(error) => Err(format!(
            "want a number and its unit, as 90s, 10m or 1h: {error}"
        )),
    }
}

impl Config {
    pub fn lease(&self) -> Duration {
        Duration::from_secs_f64(self.lease_seconds)
    }

    /// `--name`, or host name and process id.
    pub fn worker_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
            let host = host.as_deref().map_or("worker", str::trim);
            format!("{host}-{}", std::process::id())
        })
    }

    /// `--model-cache-dir`, or the user's cache folder.
    pub fn model_cache_dir(&self) -> PathBuf {
        self.model_cache_dir.clone().unwrap_or_else(|| {
            let user = std::env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
                .unwrap_or_else(std::env::temp_dir);
            user.join("darkroom").join("models")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::{Config, duration};

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "10", "0s", "-5m", "5 fortnights", "m"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
