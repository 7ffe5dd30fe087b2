//! An object as a file that can be read anywhere.

use std::{
    collections::HashMap,
    io::{self, Read, Seek, SeekFrom},
};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::ObjectStore;

/// Bytes of one request. Blocks are kept: readers of archives return to the ends of the file.
const BLOCK_BYTES: u64 = 1 << 20;
/// Most bytes of one object that are fetched: a look at it, not a download.
const FETCHED_BYTES_MAX: u64 = 64 << 20;

/// Reads an object where its user seeks to, in blocks. For threads that may block: it waits for the store.
#[derive(Debug)]
pub struct ObjectReader {
    store: ObjectStore,
    key: String,
    bytes: u64,
    position: u64,
    blocks: HashMap<u64, Bytes>,
    runtime: Handle,
}

impl ObjectReader {
    /// `bytes` is the length of the object. Must be called within a Tokio runtime.
    pub fn new(store: ObjectStore, key: String, bytes: u64) -> Self {
        Self {
            store,
            key,
            bytes,
            position: 0,
            blocks: HashMap::new(),
            runtime: Handle::current(),
        }
    }

    /// The block that begins at `first`.
    ///
    /// # Errors
    /// A [`StoreError`](super::StoreError) as the inner error, or too many bytes were read.
    fn block(&mut self, first: u64) -> io::Result<Bytes> {
        if let Some(block) = self.blocks.get(&first) {
            return Ok(block.clone());
        }
        if (self.blocks.len() as u64 + 1) * BLOCK_BYTES > FETCHED_BYTES_MAX {
            let limit = format!("more than {FETCHED_BYTES_MAX} bytes have to be read");
            return Err(io::Error::other(limit));
        }
        let length = BLOCK_BYTES.min(self.bytes - first);
        let got = self.store.get_range(&self.key, first, length);
        let block = self.runtime.block_on(got).map_err(io::Error::other)?;
        self.blocks.insert(first, block.clone());
        Ok(block)
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.bytes || buffer.is_empty() {
            return Ok(0);
        }
        let first = self.position / BLOCK_BYTES * BLOCK_BYTES;
        let block = self.block(first)?;
        let skipped = (self.position - first) as usize;
        let known = block
            .get(skipped..)
            .filter(|known| !known.is_empty())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = known.len().min(buffer.len());
        buffer[..length].copy_from_slice(&known[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
