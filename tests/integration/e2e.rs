//! The real programs together: HTTP in, Postgres and S3 between, libtorch behind.

mod command;
mod cutting_off;
mod documents;
mod local_stack;
mod predicting;
mod reading;
mod refusing;
mod refusing_bodies;
mod safe_retries;
mod submitting;
