//! What the fuzz targets of all parsers share: bytes that arrive in pieces, the memory of a call, and a short
//! run of a target in the test suite.
//!
//! A fuzz target is a function that takes any bytes and panics if a parser breaks a rule. Each crate has its targets in its
//! module `fuzzing`, which only tests and the feature `fuzzing` compile. The folder `fuzz/` runs the targets under libFuzzer.

mod alter;
mod memory;
mod pieces;
mod smoke;

pub use self::{
    memory::peak_bytes,
    pieces::{PieceReader, pieces},
    smoke::smoke,
};
