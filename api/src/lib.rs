//! The REST side of Darkroom: everything that `docs/` and `/openapi.json` say about HTTP.

mod auth;
mod batches;
mod config;
mod ctx;
mod error;
mod event_body;
mod forms;
mod image_url;
mod job_body;
mod job_request;
mod key_body;
mod openapi;
mod outside;
mod pace;
mod pages;
mod quota;
mod rate;
mod request;
mod routes;
mod server;
mod small_body;
mod sniff;
mod spool;
mod stored;
mod wait;
mod webhooks;

pub use config::Config;
pub use server::run;
