//! The whole stack on one machine: the commands behind `./deploy/local/up`, `down` and `status`.
//!
//! One process, the supervisor, starts and owns all others. Commands ask the supervisor over a
//! socket. So a second `up` starts only what is missing, and no command has to trust a pid file.

mod board;
mod client;
mod control;
mod daemon;
mod env_file;
mod layout;
mod provision;
mod sample;
mod saved_state;
mod services;
mod supervisor;

pub use self::client::{UpOptions, down, status, up};
pub use self::daemon::{supervise, supervise_detached};
