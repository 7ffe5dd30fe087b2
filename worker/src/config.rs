//! The settings of the worker: flags, their environment variables, and the manual of both (`--help`).

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use decode::Format;
use jobs::{db::DbConfig, health::HealthConfig, models::SigningConfig, object_store::StoreConfig};

use crate::{
    preemption::PreemptionConfig,
    torch::{DeviceChoice, PrecisionChoice},
};

/// Claims jobs, runs their models and writes the results. Start any number of workers, on any machine, and end one at any
/// time: SIGTERM releases its jobs at once. The jobs of a killed worker are queued again when its lease expires.
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
    pub decoding: DecodeConfig,
    #[command(flatten)]
    pub tuning: TuningConfig,
    #[command(flatten)]
    pub end: EndConfig,
    #[command(flatten)]
    pub preemption: PreemptionConfig,
    #[command(flatten)]
    pub signing: SigningConfig,
    /// Names of the models to run, separated by commas [default: any model]
    #[arg(long, env = "DARKROOM_MODELS", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Device that runs the models: `cpu`, `cuda:0`, … or `auto`: the first GPU, or the CPU if there is no GPU
    #[arg(long, env = "DARKROOM_DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// `default`: the first precision that the manifest of a model lists. `auto`: the fastest listed one on this device.
    /// A fixed precision is used for models that list it. Lower precision changes scores a little: 3 of 40 photos got
    /// another label in bf16
    #[arg(long, env = "DARKROOM_PRECISION", default_value = "default")]
    pub precision: PrecisionChoice,
    /// Name of the worker for operators [default: host name and process id]
    #[arg(long, env = "DARKROOM_WORKER_NAME")]
    pub name: Option<String>,
    /// Length of the lease, in seconds. The worker renews the lease three times in this time. Without a renewal it loses
    /// its jobs
    #[arg(long, env = "DARKROOM_LEASE_SECONDS", default_value_t = 30.0, value_parser = parse_seconds)]
    pub lease_seconds: f64,
    /// Longest time to finish the jobs on the device, in seconds, after SIGTERM, SIGINT or a spot notice. Then they are
    /// released too. Jobs that are not on the device are released at once. A second signal ends the worker at once
    #[arg(long, env = "DARKROOM_DRAIN_SECONDS", default_value_t = 20.0, value_parser = parse_seconds)]
    pub drain_seconds: f64,
    /// Address of `/livez`, `/readyz` and `/metrics`
    #[arg(long, env = "DARKROOM_HEALTH_LISTEN", default_value = "127.0.0.1:9091")]
    pub health_listen: SocketAddr,
    #[command(flatten)]
    pub health: HealthConfig,
    /// Folder that keeps model files between starts [default: `darkroom/models` in the cache folder of the user]
    #[arg(long, env = "DARKROOM_MODEL_CACHE_DIR")]
    pub model_cache_dir: Option<PathBuf>,
    /// Most bytes of model files in that folder. The least recently used files are removed first, but no file within an
    /// hour of its last use
    #[arg(long, env = "DARKROOM_MODEL_CACHE_BYTES_MAX", default_value_t = 20 << 30)]
    pub model_cache_bytes_max: u64,
    /// Largest result in the row of a job, in bytes of JSON. A larger result becomes an object in the bucket
    #[arg(long, env = "DARKROOM_RESULT_INLINE_BYTES_MAX", default_value_t = 64 << 10)]
    pub result_inline_bytes_max: usize,
    /// Most bytes of memory that loaded models may take, on a GPU the GPU's memory. The least recently used model is unloaded
    /// first. A model counts what the memory grew by during its load, between one and four times the bytes of its file
    #[arg(long, env = "DARKROOM_LOADED_BYTES_MAX", default_value_t = 4 << 30)]
    pub loaded_bytes_max: u64,
    /// After this number of objects in a row that the bucket lacks, claim one job at a time, after pauses of
    /// up to a minute, and say so in `ops.health`. The jobs run elsewhere and are not charged. The usual cause is a worker with
    /// another bucket than the API
    #[arg(long, env = "DARKROOM_STORE_FAULTS_MAX", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub store_faults_max: u16,
    /// Do not try new versions of models before they may be used. Another worker must: a pushed version waits for it. For workers
    /// that have no time to load models that their jobs do not need
    #[arg(long, env = "DARKROOM_NO_TRIALS")]
    pub no_trials: bool,
}

/// Limits of one image.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits of an image")]
pub struct LimitsConfig {
    /// Most bytes of an encoded image
    #[arg(long, env = "DARKROOM_IMAGE_BYTES_MAX", default_value_t = 20_000_000)]
    pub image_bytes_max: u64,
    /// Most pixels of an image, by its header
    #[arg(long, env = "DARKROOM_IMAGE_PIXELS_MAX", default_value_t = 40_000_000)]
    pub image_pixels_max: u64,
    /// Most pixels of a side
    #[arg(long, env = "DARKROOM_IMAGE_SIDE_PX_MAX", default_value_t = 12_000)]
    pub image_side_px_max: u32,
    /// Most bytes of memory to decode one image
    #[arg(long, env = "DARKROOM_DECODE_BYTES_MAX", default_value_t = 512 << 20)]
    pub decode_bytes_max: u64,
    /// Types of images to decode, separated by commas. The type is detected from the bytes. Off by default: `bmp`, `tiff`,
    /// `jxl`, and `avif` and `heic`, which need libheif (apt-get install libheif1)
    #[arg(
        long,
        env = "DARKROOM_FORMATS",
        value_delimiter = ',',
        default_value = "jpeg,png,webp,gif"
    )]
    pub formats: Vec<Format>,
}

/// Where images are decoded, and what that may cost.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodeConfig {
    /// Where images are decoded. `process`: each decode thread has a child process without rights, so a crash or a hang costs
    /// one image. `thread`: in the worker itself, for measurements and for systems other than Linux
    #[arg(long, env = "DARKROOM_DECODE_IN", value_enum, default_value_t)]
    pub decode_in: DecodeIn,
    /// Program that decodes, of the version of the worker [default: `darkroom-decoder` beside the worker's program]
    #[arg(long, env = "DARKROOM_DECODER", value_name = "PATH")]
    pub decoder: Option<PathBuf>,
    /// Most CPU time to decode one image, in seconds. A decode that takes longer, or uses no CPU time for twice as long, fails
    /// the job. Only with `--decode-in process`
    #[arg(long, env = "DARKROOM_DECODE_SECONDS_MAX", default_value_t = 10.0, value_parser = parse_seconds)]
    pub decode_seconds_max: f64,
    /// Most bytes of memory that all decodes of this worker take together. A decode waits until its bytes are free. At least
    /// `--decode-bytes-max`
    #[arg(long, env = "DARKROOM_DECODE_MEMORY_BYTES_MAX", default_value_t = 1 << 30)]
    pub decode_memory_bytes_max: u64,
}

/// Where images are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum DecodeIn {
    #[cfg_attr(target_os = "linux", default)]
    Process,
    #[cfg_attr(not(target_os = "linux"), default)]
    Thread,
}

/// When a worker ends by itself, with exit code 0. It claims no more jobs and finishes the held ones first.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Ending by itself")]
pub struct EndConfig {
    /// End after this time without a job, for example `90s`, `10m` or `1h`: scale to zero without an orchestrator
    #[arg(long, env = "DARKROOM_MAX_IDLE", value_name = "DURATION", value_parser = parse_duration)]
    pub max_idle: Option<Duration>,
    /// End after this number of jobs: for schedulers that want bounded pieces of work. Every claimed job counts, whatever its
    /// outcome
    #[arg(long, env = "DARKROOM_MAX_JOBS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_jobs: Option<u64>,
    /// End when the queue is empty: for batch schedulers. The worker does not wait for scheduled jobs and for jobs of other
    /// workers
    #[arg(long, env = "DARKROOM_DRAIN")]
    pub drain: bool,
}

/// How wide the stages are, and how long they wait. The defaults depend on the machine.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Pipeline")]
pub struct TuningConfig {
    /// Most images of one forward batch. The manifest or the warm-up may lower it [default: 8 on a CPU, 64 on a GPU]
    #[arg(long, env = "DARKROOM_BATCH_MAX", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch_max: Option<u16>,
    /// How long an image waits for a full forward batch while the device is busy [default: 0 on a CPU, 2 on a GPU]
    #[arg(long, env = "DARKROOM_BATCH_WAIT_MS")]
    pub batch_wait_ms: Option<u64>,
    /// Threads that decode and preprocess images [default: one for each core]
    #[arg(long, env = "DARKROOM_DECODE_THREADS", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub decode_threads: Option<u16>,
    /// Threads that run models [default: one for each core on a CPU; 2 on a GPU, so that one forward batch computes while
    /// the next one is copied]
    #[arg(long, env = "DARKROOM_INFER_THREADS", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub infer_threads: Option<u16>,
    /// Most jobs that the worker holds, from the claim to the written result [default: 4 forward batches for each inference
    /// thread]
    #[arg(long, env = "DARKROOM_CLAIM_AHEAD", value_parser = clap::value_parser!(u16).range(1..=8192))]
    pub claim_ahead: Option<u16>,
    /// Images that are fetched from S3 at the same time. As many results are stored at the same time
    #[arg(long, env = "DARKROOM_FETCH_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub fetch_concurrency: u16,
    /// How long a result waits for others to share its statement, while the worker holds other jobs. At least 200 while it
    /// holds more than an eighth of `--claim-ahead`
    #[arg(long, env = "DARKROOM_COMPLETE_WAIT_MS", default_value_t = 10)]
    pub complete_wait_ms: u64,
    /// Longest time between two claims when no wake-up arrives
    #[arg(long, env = "DARKROOM_POLL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub poll_ms: u64,
    /// Share of jobs that lower priorities get while jobs of higher priorities wait, from 0 (none: a steady stream of higher ones
    /// keeps them waiting for ever) to 0.5. Several lower priorities share it
    #[arg(long, env = "DARKROOM_LOWER_PRIORITY_SHARE", default_value_t = 0.1, value_parser = parse_share)]
    pub lower_priority_share: f64,
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=0.5).contains(&share) => Ok(share),
        _ => Err("want a number between 0 and 0.5".into()),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("want seconds between 0.1 and 86400".into()),
    }
}

/// Parses `90s`, `10m` or `1h 30m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        Ok(_) => Err("want a duration greater than zero".into()),
        Err(error) => Err(format!(
            "want a number and its unit, for example 90s, 10m or 1h: {error}"
        )),
    }
}

impl Config {
    pub fn lease(&self) -> Duration {
        Duration::from_secs_f64(self.lease_seconds)
    }

    /// `--name`, or the host name and the process id.
    pub fn worker_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
            let host = host.as_deref().map_or("worker", str::trim);
            format!("{host}-{}", std::process::id())
        })
    }

    /// `--decoder`, or `darkroom-decoder` beside the program that runs.
    pub fn decoder_program(&self) -> anyhow::Result<PathBuf> {
        if let Some(program) = &self.decoding.decoder {
            return Ok(program.clone());
        }
        let worker = std::env::current_exe().context("finding the path of this program")?;
        Ok(worker.with_file_name("darkroom-decoder"))
    }

    /// `--decode-memory-bytes-max`, but enough for one image.
    pub fn decode_memory_bytes_max(&self) -> u64 {
        let bytes_max = self.decoding.decode_memory_bytes_max;
        bytes_max.max(self.limits.decode_bytes_max)
    }

    /// `--model-cache-dir`, or a folder in the cache folder of the user.
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

    use super::{Config, parse_duration};

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "10", "0s", "-5m", "5 fortnights", "m"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
