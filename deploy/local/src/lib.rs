//! Darkroom on one machine: the parts of the local stack, and of the integration tests.
//!
//! [`Postgres`] and [`S3`] start the two stores in any folder on free ports, [`Program`] any other
//! process; [`stack`] is what `./deploy/local/up` runs. Knows how to start and configure the
//! services, nothing of what they do.

mod account;
mod places;
mod ports;
mod postgres;
mod process;
mod s3;
mod secret;
pub mod stack;
pub mod with;

pub use nix::sys::signal::Signal;

pub use self::places::{bin_dir, checkout, ld_library_path, libtorch_lib};
pub use self::ports::{free_port, is_free};
pub use self::postgres::{Postgres, PostgresOptions};
pub use self::process::{Process, Program};
pub use self::s3::{Credentials, REGION, S3, S3Options, serve};
