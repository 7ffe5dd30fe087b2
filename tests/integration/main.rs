//! Every integration test, in one binary: `queue` needs Postgres alone, `e2e` the real programs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "here a surprise is a failed test"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests play the rival whose transaction is open, and the trap that the rule is about"
)]

mod chaos;
mod e2e;
mod mutants;
mod queue;
mod wire;
