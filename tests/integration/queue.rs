//! The queue verbs on a real Postgres, without processes.

mod canceling;
mod claiming;
mod connections;
mod contract;
mod fairness;
mod fencing;
mod invariants;
mod keeping_time;
mod losing_workers;
mod partitions;
mod plans;
mod random_walk;
mod retaining;
mod submitting;
mod trying_again;
