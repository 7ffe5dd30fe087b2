//! All integration tests, in one binary. Tests in `queue` need only Postgres; tests in `e2e` start the real programs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is a failed test"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests hold transactions open as a competing client would, and do on purpose what the rule forbids"
)]

mod chaos;
mod e2e;
mod mutants;
mod queue;
mod wire;
