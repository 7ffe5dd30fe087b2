//! The queue: one verb a file, one statement a verb, one arrow of `docs/states.md`.
//!
//! A worker holds no row lock and no transaction while it works. A claim commits a lease, and `lease_no` fences all that the
//! worker writes later.

mod cancel;
mod changed_listener;
mod claim;
mod controls;
mod enqueue;
mod enqueuer;
mod expire;
mod explain;
mod find;
mod fold_history;
mod heartbeat;
mod housekeeping;
mod idempotency;
mod job_loader;
mod latency;
mod list;
mod listen;
mod low_water;
mod lower_levels;
mod matching_job;
mod notify;
mod promote;
mod prune;
mod purge;
mod purge_due;
mod register;
mod report_loaded_models;
mod report_store_fault;
mod rescue;
mod retry;
mod set_priority;
mod settle;
mod stats;
mod time_out;
mod unended;
mod usage;
mod worker_listener;
mod workers;

pub use cancel::{CancelOutcome, cancel};
pub use changed_listener::{ChangedListener, JobWatch};
pub use claim::{Claim, claim, claim_lower};
pub use controls::{DrainOutcome, drain, pause, resume};
pub use enqueue::{Enqueued, NewJob, enqueue};
pub use enqueuer::{Enqueuer, EnqueuerConfig, PendingUpload};
pub use expire::expire;
pub use explain::{Explanation, explain};
pub use find::{attempts, attempts_of, attempts_of_all, find, find_all};
pub use fold_history::fold_history;
pub use heartbeat::{Heartbeat, heartbeat};
pub use housekeeping::{HousekeepingCounts, housekeep};
pub use idempotency::{
    EarlierRequest, IdempotencyKey, find_earlier_request, forget_keys, remember_key,
};
pub use job_loader::JobLoader;
pub use latency::{Latency, latency};
pub use list::{JobFilter, JobPage, PageSize, list};
pub use low_water::LowWater;
pub use lower_levels::LowerLevels;
pub use matching_job::{MatchingJob, find_matching_job};
pub use notify::{
    ANY_MODEL, CHANGED_CHANNEL, Notifier, QUEUED_CHANNEL, STARTED_CHANNEL, WORKER_CHANNEL,
};
pub use promote::promote;
pub use prune::{prune, prune_days};
pub use purge::{PurgeOutcome, purge, purge_for};
pub use purge_due::purge_due;
pub use register::{Registration, deregister, register};
pub use report_loaded_models::{LoadedModel, report_loaded_models};
pub use report_store_fault::report_store_fault;
pub use rescue::rescue;
pub use retry::{RetryOutcome, retry, retry_on_current_version};
pub use set_priority::{SetPriorityOutcome, set_priority};
pub use settle::{Outcome, Prediction, Settlement, release, settle};
pub use stats::{ModelStats, stats};
pub use time_out::time_out;
pub use unended::unended;
pub use usage::{Usage, UsageQuery, usage};
pub use worker_listener::WorkerListener;
pub use workers::{WorkerView, workers};

use crate::{JobId, LeaseNo};

/// A worker's right to one job. A write of a worker names both fields, and has an effect only while both match the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub job_id: JobId,
    pub lease_no: LeaseNo,
}

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Nothing was written, or it is not known whether it was. Try again.
    #[error("Postgres: {0}")]
    Db(#[from] sqlx::Error),
    /// The worker's own lease ran out, and its jobs went back to the queue. Stop all work and register anew.
    #[error("the worker's lease has run out")]
    LeaseLost,
    /// The owner used the idempotency key before: nothing was queued.
    #[error("the idempotency key belongs to another job")]
    KeyTaken,
    /// The image was stored before the submit and purged meanwhile: nothing was queued. Upload it again.
    #[error("the stored image was purged meanwhile")]
    ImagePurged,
    /// The process takes no more submits now.
    #[error("too many submits are waiting")]
    Full,
}

impl QueueError {
    /// A newer schema may return outcomes that this program does not know.
    fn unknown_outcome(outcome: &str) -> Self {
        let unknown = format!("this program knows no outcome {outcome:?}");
        Self::Db(sqlx::Error::Decode(unknown.into()))
    }
}
