use serde::{Deserialize, Serialize};

use crate::Object;

/// The load of the whole service, and of each model.
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

/// The load of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelStats {
    pub model: String,
    /// Jobs that wait for a worker.
    pub queued: i64,
    /// Jobs that a worker holds.
    pub running: i64,
    /// Jobs that are due later, or back off.
    pub scheduled: i64,
    /// How long the longest-waiting queued job has been due; empty if none waits.
    pub oldest_age_seconds: Option<f64>,
    /// Jobs made in a second, over the last five minutes.
    pub arrived_per_second: f64,
    /// Jobs that workers ended in a second, by the last seconds or minutes.
    pub finished_per_second: f64,
    /// Jobs that one worker ends in a second while it has jobs of this model; empty if none ended lately.
    pub finished_per_worker_second: Option<f64>,
    /// How long one worker would take for all queued and running jobs.
    pub work_seconds: Option<f64>,
    /// Workers that run the model and are not leaving.
    pub live_workers: i64,
    /// Workers that would end the backlog in 30 seconds and keep up with the arrivals.
    pub desired_workers: i64,
    pub paused: bool,
    /// The reason that the operator gave.
    pub pause_reason: Option<String>,
}

/// Why a job has its status, and when it may begin.
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
    /// Workers that run the model and are not leaving.
    pub live_workers: i64,
    /// Jobs of the model that ended in a second, by the last seconds or minutes.
    pub finished_per_second: f64,
    /// When a worker will begin, at that rate; empty if the job runs, has ended, or is blocked.
    pub starts_in_seconds: Option<f64>,
    /// What the job waits for, in words; empty if nothing blocks it.
    pub blocked_by: Vec<String>,
}
