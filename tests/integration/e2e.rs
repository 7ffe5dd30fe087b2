//! The real programs together: HTTP in, Postgres and S3 between, libtorch behind.

mod batches;
mod command;
mod cutting_off;
mod documents;
mod every_route;
mod keys;
mod images;
mod leaving;
mod limits;
mod local_stack;
mod managing;
mod many_models;
mod models;
mod overload;
mod predicted_before;
mod predicting;
mod reading;
mod refusing;
mod refusing_bodies;
mod safe_retries;
mod spot_machines;
mod submitting;
mod tasks;
mod usage;
