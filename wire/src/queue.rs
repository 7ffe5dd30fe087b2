use serde::{Deserialize, Serialize};

use crate::Object;

/// The current load of the service and of each model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = StatsBody))]
pub struct Stats {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "stats"))]
    pub object: Object,
    /// Jobs of all models that wait for a worker.
    pub queued: i64,
    pub running: i64,
    pub scheduled: i64,
    pub oldest_age_seconds: Option<f64>,
    pub arrived_per_second: f64,
    pub finished_per_second: f64,
    pub models: Vec<ModelStats>,
}

/// The queue of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelStats {
    pub model: String,
    /// Jobs that wait for a worker.
    pub queued: i64,
    /// Jobs that a worker holds.
    pub running: i64,
    /// Jobs that are due later, or that back off.
    pub scheduled: i64,
    /// Time since the oldest queued job was due; empty if none is queued.
    pub oldest_age_seconds: Option<f64>,
    /// Jobs created per second, over the last five minutes.
    pub arrived_per_second: f64,
    /// Jobs that workers ended per second, over the last seconds or minutes.
    pub finished_per_second: f64,
    /// Jobs that one worker ends per second while it has jobs of this model; empty if none ended lately.
    pub finished_per_worker_second: Option<f64>,
    /// Time that one worker would need for the queued and running jobs.
    pub work_seconds: Option<f64>,
    /// Workers that run the model and are not draining.
    pub live_workers: i64,
    /// Workers that would finish the backlog in 30 seconds and keep up with new jobs.
    pub desired_workers: i64,
    pub paused: bool,
    /// The reason that the operator gave for the pause.
    pub pause_reason: Option<String>,
}

/// Why a job is in its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    pub job_id: String,
    /// As in `job.status`.
    pub status: String,
    pub model: String,
    pub priority: i16,
    /// Queued jobs of the model that go first; counted up to 10,000.
    pub jobs_ahead: i64,
    /// Workers that run the model and are not draining.
    pub live_workers: i64,
    /// Jobs of the model that ended per second, measured over the last seconds or minutes.
    pub finished_per_second: f64,
    /// Time until a worker starts the job, at that rate. Empty if the job runs, has ended, or is blocked.
    pub starts_in_seconds: Option<f64>,
    /// What the job waits for, in words; empty if nothing blocks the job.
    pub blocked_by: Vec<String>,
}
