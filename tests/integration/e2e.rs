//! The real programs together: HTTP in, Postgres and S3 between, libtorch behind.

mod clients;
mod command;
mod cutting_off;
mod documents;
mod leaving;
mod local_stack;
mod managing;
mod overload;
mod predicting;
mod reading;
mod refusing;
mod refusing_bodies;
mod safe_retries;
mod spot_machines;
mod submitting;
mod submitting_folders;
