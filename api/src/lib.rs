//! The REST side of Darkroom: everything that `docs/` and `/openapi.json` say about HTTP.

mod auth;
mod config;
mod ctx;
mod error;
mod event_body;
mod forms;
mod image_url;
mod job_body;
mod job_request;
mod json_body;
mod openapi;
mod outside;
mod pages;
mod request;
mod routes;
mod server;
mod sniff;
mod spool;
mod wait;
mod webhooks;

pub use config::Config;
pub use server::run;
