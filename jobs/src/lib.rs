//! What every part of Darkroom shares: ids, the job, the queue verbs (all SQL over jobs), models, keys and the object store.
//!
//! This crate knows neither actix nor tch: it serves no API and runs no model.

mod backoff;
mod batch_loader;
pub mod batches;
pub mod db;
pub mod digest;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz_targets;
pub mod health;
pub mod ids;
pub mod images;
pub mod job;
pub mod keys;
pub mod manifest;
pub mod models;
pub mod object_store;
pub mod orphans;
pub mod problem;
pub mod queue;
pub mod results;
pub mod retention;
pub mod secret;
pub mod tasks;
pub mod telemetry;
pub mod webhooks;

pub use backoff::Backoff;
pub use digest::Sha256Digest;
pub use ids::{BatchId, JobId, LeaseNo, WorkerId};
pub use job::{Attempt, BatchMember, Job, JobState};
pub use problem::{Problem, ProblemCode};
pub use secret::Secret;

/// The numbered SQL of `migrations/`, compiled in.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
