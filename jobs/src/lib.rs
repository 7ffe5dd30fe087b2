//! What every part of Darkroom shares: ids, the job, the queue verbs (all SQL over jobs), models, keys and the object store.
//!
//! This crate knows neither actix nor tch: it serves no API and runs no model. What the tables and the contract both have
//! is a type of `wire`: problems, warnings, scopes, types of events.

pub mod audit;
mod backoff;
mod batch_loader;
pub mod batches;
pub mod bucket;
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
pub mod queue;
pub mod results;
pub mod retention;
pub mod secret;
pub mod secret_files;
pub mod tasks;
pub mod telemetry;
pub mod webhooks;

pub use backoff::Backoff;
pub use digest::Sha256Digest;
pub use ids::{BatchId, JobId, LeaseNo, WorkerId};
pub use job::{Attempt, BatchMember, Job, JobState};
pub use secret::Secret;
pub use wire::{InputWarning, Problem, ProblemCode};

/// The numbered SQL of `migrations/`, compiled in.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
