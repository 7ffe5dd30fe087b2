use std::net::SocketAddr;

use clap::Parser;
use jobs::{
    db::DbConfig, object_store::StoreConfig, queue::EnqueuerConfig, retention::RetentionConfig,
};

use crate::webhooks::WebhookConfig;

/// The HTTP API of Darkroom: takes images, queues jobs, answers what became of them.
///
/// Stateless: run as many as you like against one Postgres and one bucket. Every flag is also an environment variable.
#[derive(Debug, Clone, Parser)]
#[command(version, name = "darkroom-api")]
pub struct Config {
    /// Where to serve the API
    #[arg(long, env = "DARKROOM_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where to serve /livez, /readyz and /metrics for machines
    #[arg(
        long,
        env = "DARKROOM_METRICS_LISTEN",
        default_value = "127.0.0.1:9090"
    )]
    pub metrics_listen: SocketAddr,
    /// Threads that serve requests; 0: one per core
    #[arg(long, env = "DARKROOM_HTTP_THREADS", default_value_t = 0)]
    pub http_threads: usize,
    /// Most open connections of one thread
    #[arg(long, env = "DARKROOM_CONNECTIONS_MAX", default_value_t = 10_000)]
    pub connections_max: usize,
    /// How long running requests may take to end after SIGTERM, in seconds
    #[arg(long, env = "DARKROOM_SHUTDOWN_SECONDS", default_value_t = 30)]
    pub shutdown_seconds: u64,
    /// Let anyone do anything, without a key; only on a loopback address
    #[arg(long, env = "DARKROOM_INSECURE_NO_AUTH")]
    pub insecure_no_auth: bool,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub queue: EnqueuerConfig,
    #[command(flatten)]
    pub webhooks: WebhookConfig,
    #[command(flatten)]
    pub retention: RetentionConfig,
    #[command(flatten)]
    pub db: DbConfig,
    #[command(flatten)]
    pub store: StoreConfig,
}

/// What a request may ask for.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Largest image, in bytes
    #[arg(long, env = "DARKROOM_IMAGE_BYTES_MAX", default_value_t = 20_000_000)]
    pub image_bytes_max: usize,
    /// Largest side of an image, in pixels
    #[arg(long, env = "DARKROOM_IMAGE_SIDE_PX_MAX", default_value_t = 12_000)]
    pub image_side_px_max: u32,
    /// Most pixels of an image
    #[arg(long, env = "DARKROOM_IMAGE_PIXELS_MAX", default_value_t = 40_000_000)]
    pub image_pixels_max: u64,
    /// Image types to accept, of jpeg, png, webp, gif, bmp, tiff
    #[arg(
        long,
        env = "DARKROOM_IMAGE_TYPES",
        value_delimiter = ',',
        default_value = "jpeg,png,webp,gif"
    )]
    pub image_types: Vec<String>,
    /// Fetch images that jobs name by their URL
    #[arg(long, env = "DARKROOM_IMAGE_URLS")]
    pub image_urls: bool,
    /// Longest time of such a fetch, in milliseconds
    #[arg(long, env = "DARKROOM_IMAGE_URL_TIMEOUT_MS", default_value_t = 15_000)]
    pub image_url_timeout_ms: u64,
    /// An upload up to this size stays in memory, a larger one is spooled to a temporary file; in bytes
    #[arg(long, env = "DARKROOM_SPOOL_MEMORY_BYTES_MAX", default_value_t = 1 << 20)]
    pub spool_memory_bytes_max: usize,
    /// Largest description of a job (JSON without its image), in bytes
    #[arg(long, env = "DARKROOM_JOB_BYTES_MAX", default_value_t = 64 << 10)]
    pub job_bytes_max: usize,
    /// Longest pause within a request body, in milliseconds
    #[arg(long, env = "DARKROOM_BODY_IDLE_TIMEOUT_MS", default_value_t = 10_000)]
    pub body_idle_timeout_ms: u64,
    /// Longest time of a whole request body, in milliseconds
    #[arg(long, env = "DARKROOM_BODY_TIMEOUT_MS", default_value_t = 300_000)]
    pub body_timeout_ms: u64,
    /// Attempts of a job that does not say
    #[arg(long, env = "DARKROOM_ATTEMPTS_MAX", default_value_t = 3)]
    pub attempts_max: i16,
    /// Lost workers that a job survives
    #[arg(long, env = "DARKROOM_INTERRUPTIONS_MAX", default_value_t = 5)]
    pub interruptions_max: i16,
    /// Longest time of one attempt, in seconds
    #[arg(long, env = "DARKROOM_ATTEMPT_TIMEOUT_SECONDS", default_value_t = 120)]
    pub attempt_timeout_seconds: i32,
    /// How long finished jobs are kept when they do not say, in days
    #[arg(long, env = "DARKROOM_RETAIN_DAYS", default_value_t = 30.0)]
    pub retain_days: f64,
}
