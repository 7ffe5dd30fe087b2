use std::net::SocketAddr;

use clap::Parser;
use decode::Format;
use jobs::{
    batches::BatchesConfig,
    db::{DbConfig, ReadsConfig},
    health::HealthConfig,
    models::SigningConfig,
    object_store::StoreConfig,
    queue::{EnqueuerConfig, PageSize},
    retention::RetentionConfig,
};

/// The HTTP API of Darkroom: stores images, queues jobs, serves results.
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
    #[command(flatten)]
    pub health: HealthConfig,
    /// Threads that serve requests; 0: one for each core
    #[arg(long, env = "DARKROOM_HTTP_THREADS", default_value_t = 0)]
    pub http_threads: usize,
    /// Most open connections of one thread
    #[arg(long, env = "DARKROOM_CONNECTIONS_MAX", default_value_t = 10_000)]
    pub connections_max: usize,
    /// How long running requests may take to end after SIGTERM, in seconds
    #[arg(long, env = "DARKROOM_SHUTDOWN_SECONDS", default_value_t = 30)]
    pub shutdown_seconds: u64,
    /// Serve without API keys, every request with every scope; only on a loopback address
    #[arg(long, env = "DARKROOM_INSECURE_NO_AUTH")]
    pub insecure_no_auth: bool,
    /// Predict again, even if an earlier job has the same prediction
    #[arg(long, env = "DARKROOM_NO_PREDICTION_CACHE")]
    pub no_prediction_cache: bool,
    #[command(flatten)]
    pub connections: ConnectionConfig,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub signing: SigningConfig,
    #[command(flatten)]
    pub audit: AuditConfig,
    #[command(flatten)]
    pub keys: KeyDefaults,
    #[command(flatten)]
    pub wrong_keys: WrongKeyConfig,
    #[command(flatten)]
    pub queue: EnqueuerConfig,
    #[command(flatten)]
    pub batches: BatchesConfig,
    #[command(flatten)]
    pub webhooks: WebhookConfig,
    #[command(flatten)]
    pub retention: RetentionConfig,
    #[command(flatten)]
    pub db: DbConfig,
    #[command(flatten)]
    pub reads: ReadsConfig,
    #[command(flatten)]
    pub store: StoreConfig,
    /// Accept a bucket that lacks the marker object of this database: for a bucket that was lost or emptied. What the database
    /// names and the bucket lacks stays lost. Start once with it, then without
    #[arg(
        long,
        env = "DARKROOM_S3_ADOPT_BUCKET",
        help_heading = "Object store (S3)"
    )]
    pub s3_adopt_bucket: bool,
}

/// Limits of clients that send or read slowly, and of clients that were refused.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Slow and refused clients")]
pub struct ConnectionConfig {
    /// Least average rate of a request body, in bytes a second; a slower client gets 408. 0: no limit
    #[arg(
        long,
        env = "DARKROOM_BODY_BYTES_PER_SECOND_MIN",
        default_value_t = 500
    )]
    pub body_bytes_per_second_min: u32,
    /// How long a request body may come below that rate, in milliseconds. Only the time in which the API waits counts
    #[arg(long, env = "DARKROOM_BODY_RATE_AFTER_MS", default_value_t = 20_000)]
    pub body_rate_after_ms: u64,
    /// How long a client may take no byte of its response, in milliseconds. Then its connection is closed
    #[arg(long, env = "DARKROOM_WRITE_TIMEOUT_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub write_timeout_ms: u64,
    /// Most bytes of the body of a refused request that are read and dropped. Many clients read the refusal only after they
    /// have sent everything. Past the limit the connection is closed
    #[arg(long, env = "DARKROOM_REFUSED_BODY_BYTES_MAX", default_value_t = 64 << 20)]
    pub refused_body_bytes_max: u64,
    /// Longest time of reading the body of a refused request, in milliseconds
    #[arg(
        long,
        env = "DARKROOM_REFUSED_BODY_TIMEOUT_MS",
        default_value_t = 30_000
    )]
    pub refused_body_timeout_ms: u64,
}

/// Limits of requests and jobs.
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
    /// Most bytes of memory that a worker may use to decode an image, as its `--decode-bytes-max`
    #[arg(long, env = "DARKROOM_DECODE_BYTES_MAX", default_value_t = 512 << 20)]
    pub decode_bytes_max: u64,
    /// Image types to accept, separated by commas. Workers must accept them too (their `--formats`). Off by default: `bmp`,
    /// `tiff`, `avif`, `heic` and `jxl`
    #[arg(
        long,
        env = "DARKROOM_IMAGE_TYPES",
        value_delimiter = ',',
        default_value = "jpeg,png,webp,gif"
    )]
    pub image_types: Vec<Format>,
    /// Fetch images that jobs name by their URL
    #[arg(long, env = "DARKROOM_IMAGE_URLS")]
    pub image_urls: bool,
    /// Longest time of fetching an image by its URL, in milliseconds
    #[arg(long, env = "DARKROOM_IMAGE_URL_TIMEOUT_MS", default_value_t = 15_000)]
    pub image_url_timeout_ms: u64,
    /// An upload up to this size stays in memory, a larger one is spooled to a temporary file; in bytes
    #[arg(long, env = "DARKROOM_SPOOL_MEMORY_BYTES_MAX", default_value_t = 1 << 20)]
    pub spool_memory_bytes_max: usize,
    /// Largest description of a job (JSON without its image), in bytes
    #[arg(long, env = "DARKROOM_JOB_BYTES_MAX", default_value_t = 64 << 10)]
    pub job_bytes_max: usize,
    /// Most JSON values in the parameters or in the metadata of a job, counted at every depth: lists and objects count, and so
    /// does each value within them. A value needs up to a hundred times as much memory as its text
    #[arg(long, env = "DARKROOM_JOB_VALUES_MAX", default_value_t = 4_000)]
    pub job_values_max: usize,
    /// Longest pause within a request body, in milliseconds
    #[arg(long, env = "DARKROOM_BODY_IDLE_TIMEOUT_MS", default_value_t = 10_000)]
    pub body_idle_timeout_ms: u64,
    /// Longest time of a whole request body, in milliseconds
    #[arg(long, env = "DARKROOM_BODY_TIMEOUT_MS", default_value_t = 300_000)]
    pub body_timeout_ms: u64,
    /// Most bytes of request bodies that are on the way in this process: they have arrived or were announced, and are not
    /// stored yet. Up to `--spool-memory-bytes-max` of each body are in memory, the rest is in temporary files
    #[arg(long, env = "DARKROOM_BODIES_BYTES_MAX", default_value_t = 512 << 20)]
    pub bodies_bytes_max: u64,
    /// As `--bodies-bytes-max`, but for the bodies of one API key
    #[arg(
        long,
        env = "DARKROOM_KEY_BODIES_BYTES_MAX",
        default_value_t = 128 << 20
    )]
    pub key_bodies_bytes_max: u64,
    /// How long a request waits for room below these two limits, in milliseconds. Then it is refused: with 429 if its key uses
    /// too much, with 503 if all keys together do
    #[arg(long, env = "DARKROOM_BODIES_WAIT_MS", default_value_t = 10_000)]
    pub bodies_wait_ms: u64,
    /// Most bytes of a page of jobs, give or take one job: a page with large results has fewer jobs than the client asked for
    #[arg(long, env = "DARKROOM_PAGE_BYTES_MAX", default_value_t = 1 << 20)]
    pub page_bytes_max: usize,
    /// How long the URL of a signed upload is valid, in seconds; at most 15 minutes
    #[arg(long, env = "DARKROOM_UPLOAD_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=900))]
    pub upload_seconds: u64,
    /// Most signed uploads of one owner that no job has named yet. Each is a row and may become an object
    #[arg(long, env = "DARKROOM_SIGNED_UPLOADS_MAX", default_value_t = 100_000)]
    pub signed_uploads_max: u32,
    /// Objects that this process reads at the same time to check their digest: when a request first names a signed upload, or
    /// names an image that the store has lost. A check reads up to --image-bytes-max and holds 64 KiB
    #[arg(long, env = "DARKROOM_OBJECT_CHECKS_MAX", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub object_checks_max: u16,
    /// Largest file of a model that is pushed through REST, in bytes; a single upload to S3 has 5 GiB at most
    #[arg(long, env = "DARKROOM_MODEL_FILE_BYTES_MAX", default_value_t = 5 << 30, value_parser = clap::value_parser!(u64).range(1..=5 << 30))]
    pub model_file_bytes_max: u64,
    /// Most lines of a batch
    #[arg(long, env = "DARKROOM_BATCH_LINES_MAX", default_value_t = 50_000)]
    pub batch_lines_max: i32,
    /// Longest line of a batch, in bytes; base64 makes an image a third longer
    #[arg(
        long,
        env = "DARKROOM_BATCH_LINE_BYTES_MAX",
        default_value_t = 28_000_000
    )]
    pub batch_line_bytes_max: usize,
    /// Largest body of a batch, in bytes
    #[arg(
        long,
        env = "DARKROOM_BATCH_BYTES_MAX",
        default_value_t = 20_000_000_000
    )]
    pub batch_bytes_max: u64,
    /// Longest time of the body of a batch, in milliseconds
    #[arg(
        long,
        env = "DARKROOM_BATCH_BODY_TIMEOUT_MS",
        default_value_t = 3_600_000
    )]
    pub batch_body_timeout_ms: u64,
    /// Lines of a batch that are queued in one statement
    #[arg(long, env = "DARKROOM_BATCH_CHUNK_LINES", default_value_t = 500)]
    pub batch_chunk_lines: usize,
    /// Bytes of a batch that are held in memory before their lines are queued
    #[arg(long, env = "DARKROOM_BATCH_CHUNK_BYTES", default_value_t = 16 << 20)]
    pub batch_chunk_bytes: usize,
    /// Attempts of a job without `max_attempts`
    #[arg(long, env = "DARKROOM_ATTEMPTS_MAX", default_value_t = 3)]
    pub attempts_max: i16,
    /// How many times a job may lose its worker before it fails
    #[arg(long, env = "DARKROOM_INTERRUPTIONS_MAX", default_value_t = 5)]
    pub interruptions_max: i16,
    /// Longest time of one attempt, in seconds
    #[arg(long, env = "DARKROOM_ATTEMPT_TIMEOUT_SECONDS", default_value_t = 120)]
    pub attempt_timeout_seconds: i32,
    /// How long a signed URL of a mask or a large result is valid, in seconds
    #[arg(long, env = "DARKROOM_RESULT_URL_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub result_url_seconds: u64,
    /// Most jobs that one page of a filtered list looks at; a page that has looked at so many ends there, however short it is
    #[arg(long, env = "DARKROOM_LIST_JOBS_LOOKED_AT_MAX", default_value_t = PageSize::LOOKED_AT_MAX, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    pub list_jobs_looked_at_max: u32,
    /// How long finished jobs without `retain_for` are kept, in days
    #[arg(long, env = "DARKROOM_RETAIN_DAYS", default_value_t = 30.0)]
    pub retain_days: f64,
}

/// Sending webhooks, and the outgoing connections of webhooks and image URLs.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookConfig {
    /// Let webhooks and image URLs reach private addresses, http and any port; for tests only
    #[arg(long, env = "DARKROOM_ALLOW_PRIVATE_ADDRESSES")]
    pub allow_private_addresses: bool,
    /// Most webhooks that this process sends at the same time
    #[arg(long, env = "DARKROOM_WEBHOOK_SENDS_MAX", default_value_t = 128)]
    pub webhook_sends_max: u16,
    /// Most webhooks of one owner that this process sends at the same time. A host that never answers holds each of its sends for
    /// `--webhook-timeout-ms`: the rest of `--webhook-sends-max` is what other owners have meanwhile
    #[arg(long, env = "DARKROOM_WEBHOOK_SENDS_PER_OWNER_MAX", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub webhook_sends_per_owner_max: u16,
    /// Most webhooks that this process sends to one host at the same time; one owner leaves a quarter of these to other owners
    #[arg(long, env = "DARKROOM_WEBHOOK_SENDS_PER_HOST_MAX", default_value_t = 8)]
    pub webhook_sends_per_host_max: u16,
    /// Longest time of connecting to a webhook receiver or to the host of an image URL, in milliseconds
    #[arg(
        long,
        env = "DARKROOM_OUTSIDE_CONNECT_TIMEOUT_MS",
        default_value_t = 5_000
    )]
    pub outside_connect_timeout_ms: u64,
    /// Longest time of one webhook request, in milliseconds
    #[arg(long, env = "DARKROOM_WEBHOOK_TIMEOUT_MS", default_value_t = 10_000)]
    pub webhook_timeout_ms: u64,
    /// Most webhook endpoints of one owner
    #[arg(long, env = "DARKROOM_WEBHOOK_ENDPOINTS_MAX", default_value_t = 20)]
    pub webhook_endpoints_max: u16,
}

/// What goes to `ops.audit` without an operator's act.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Audit")]
pub struct AuditConfig {
    /// How often the counts of refused logins go to `ops.audit`, and the last use of keys to `ops.api_keys`, in seconds. A count is
    /// one row, however many logins it stands for
    #[arg(long, env = "DARKROOM_AUDIT_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub audit_seconds: u64,
    /// How long rows of `ops.audit` are kept, in days; 30 at least
    #[arg(long, env = "DARKROOM_AUDIT_RETAIN_DAYS", default_value_t = 400, value_parser = clap::value_parser!(i32).range(30..=36_500))]
    pub audit_retain_days: i32,
}

/// Limits of addresses that send wrong API keys.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Wrong API keys")]
pub struct WrongKeyConfig {
    /// Wrong keys a second that one address may send to one API process; 0: no limit. An address is an IPv4 address or an IPv6
    /// network of 64 bits. Above the limit, keys that this process has not seen before get 429 from there
    #[arg(long, env = "DARKROOM_WRONG_KEYS_PER_SECOND", default_value_t = 10.0)]
    pub wrong_keys_per_second: f64,
    /// Most wrong keys that one address may send at once, after a pause
    #[arg(long, env = "DARKROOM_WRONG_KEYS_BURST", default_value_t = 200, value_parser = clap::value_parser!(i32).range(1..))]
    pub wrong_keys_burst: i32,
}

/// Limits of API keys that have none of their own.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits of API keys that have none of their own")]
pub struct KeyDefaults {
    /// Average requests a second of one key to one API process; 0: no limit
    #[arg(
        long,
        env = "DARKROOM_KEY_REQUESTS_PER_SECOND",
        default_value_t = 5_000.0
    )]
    pub key_requests_per_second: f64,
    /// Most requests of one key at once, after a pause
    #[arg(long, env = "DARKROOM_KEY_BURST", default_value_t = 10_000, value_parser = clap::value_parser!(i32).range(1..))]
    pub key_burst: i32,
    /// Most requests of one key that one API process has open, those that wait for a job included; 0: no limit
    #[arg(long, env = "DARKROOM_KEY_REQUESTS_OPEN_MAX", default_value_t = 12_000)]
    pub key_requests_open_max: u32,
    /// Most unended jobs of one owner; 0: no limit
    #[arg(
        long,
        env = "DARKROOM_OWNER_QUEUED_JOBS_MAX",
        default_value_t = 1_000_000
    )]
    pub owner_queued_jobs_max: i64,
    /// Most bytes of stored images of one owner; 0: no limit
    #[arg(long, env = "DARKROOM_OWNER_STORED_BYTES_MAX", default_value_t = 0)]
    pub owner_stored_bytes_max: i64,
    /// Highest priority of a job; a job without a priority has 0. Jobs of a higher priority run first, of any owner: give a higher
    /// limit to single keys: `darkroom keys create --priority-max`
    #[arg(long, env = "DARKROOM_KEY_PRIORITY_MAX", default_value_t = 0, value_parser = clap::value_parser!(i16).range(0..=100))]
    pub key_priority_max: i16,
}

impl KeyDefaults {
    pub(crate) const UNLIMITED: Self = Self {
        key_requests_per_second: 0.0,
        key_burst: 1,
        key_requests_open_max: 0,
        owner_queued_jobs_max: 0,
        owner_stored_bytes_max: 0,
        key_priority_max: 100,
    };
}
