//! The REST API of Darkroom: everything that `docs/` and `/openapi.json` say about HTTP.

mod background;
mod batches;
mod bucket_watch;
mod config;
mod ctx;
mod egress;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz_targets;
mod http;
mod job_fields;
mod limits;
mod openapi;
mod pages;
mod routes;
mod server;
mod submit;
mod webhooks;

pub use config::Config;
pub use server::run;
