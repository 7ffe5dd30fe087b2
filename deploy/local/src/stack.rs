//! The whole stack on one machine: what `./deploy/local/up`, `down` and `status` run.
//!
//! One process supervises and owns all others; everybody else asks it over a socket. So a second
//! `up` can start what is missing, and `down` and `status` know without guessing from pids.

mod board;
mod client;
mod control;
mod daemon;
mod env_file;
mod layout;
mod memory;
mod provision;
mod sample;
mod services;
mod supervisor;

pub use self::client::{Choice, down, status, up};
pub use self::daemon::{supervise, supervise_detached};
