//! Darkroom on one machine: used by the local stack and by the integration tests.
//!
//! [`Postgres`] and [`S3`] start a server in any folder, on a free port. [`Program`] starts any other
//! process. [`stack`] is the command behind `./deploy/local/up`. This crate starts and configures
//! the services; their work is unknown to it.

mod account;
mod paths;
mod ports;
mod postgres;
mod process;
mod s3;
mod secret;
pub mod stack;
pub mod with;

pub use nix::sys::signal::Signal;

pub use self::paths::{bin_dir, checkout, ld_library_path, libtorch_lib};
pub use self::ports::{free_port, is_free};
pub use self::postgres::{Postgres, PostgresOptions};
pub use self::process::{Process, Program};
pub use self::s3::{Credentials, REGION, S3, S3Options, serve};
