//! The queue verbs on a real Postgres, without processes.

mod canceling;
mod claiming;
mod connections;
mod contract;
mod contract_plans;
mod contract_questions;
mod delivering;
mod fairness;
mod fencing;
mod invariants;
mod keeping_time;
mod losing_workers;
mod marks;
mod operating;
mod operating_by_role;
mod operating_explain;
mod operating_in_sql;
mod operating_races;
mod partitions;
mod plans;
mod publishing;
mod random_walk;
mod retaining;
mod submitting;
mod trying_again;
