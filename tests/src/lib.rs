//! Helpers of the integration tests: new databases and buckets, jobs in every state, changed times, real processes, and a
//! REST client.
//!
//! Tests run in parallel, in one process each (nextest), against one Postgres and one S3 server that run already:
//! `darkroom-local with -- cargo nextest run --cargo-profile ci -p tests`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is a failed test"
)]

pub mod claiming;
pub mod client;
pub mod clock;
pub mod database;
pub mod decoders;
pub mod dump;
mod eventually;
pub mod fixtures;
pub mod given;
pub mod metadata_service;
pub mod mutant;
pub mod nginx;
pub mod odd_pictures;
pub mod openapi;
pub mod own_store;
pub mod pgbouncer;
pub mod proxy;
pub mod raw_http;
pub mod receiver;
pub mod scene;
pub mod servers;
pub mod settling;
pub mod stack;
pub mod wire;

pub use self::client::{Answer, Client};
pub use self::database::Database;
pub use self::dump::dump;
pub use self::eventually::eventually;
pub use self::metadata_service::MetadataService;
pub use self::nginx::Nginx;
pub use self::pgbouncer::Pgbouncer;
pub use self::raw_http::RawConnection;
pub use self::receiver::Receiver;
pub use self::stack::Stack;
