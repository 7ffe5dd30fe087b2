//! Takes batches in: reads them line by line or file by file, and queues their jobs in chunks.

pub(crate) mod entry;
mod files;
mod intake;
mod lines;
mod source;

pub(crate) use self::{
    intake::{BatchChunk, BatchIntake},
    source::BatchReader,
};
