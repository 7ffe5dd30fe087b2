//! One upload on its way in: hashed and measured as it arrives, in memory while small, in a temporary file when large.

use std::{
    fs::File,
    io::{BufReader, Cursor, Write},
    path::Path,
};

use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use jobs::{ProblemCode, Sha256Digest, images::Image, object_store::Body};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::time::{Duration, Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::{
    config::Limits,
    error::ApiError,
    sniff::{self, sniff},
};

/// Paces the reading of a request body: not too long a pause, not too long in all.
#[derive(Debug)]
pub(crate) struct BodyClock {
    idle: Duration,
    ends: Instant,
}

impl BodyClock {
    pub fn start(limits: &Limits) -> Self {
        Self::lasting(limits, limits.body_timeout_ms)
    }

    /// For the body of a batch.
    pub fn start_batch(limits: &Limits) -> Self {
        Self::lasting(limits, limits.batch_body_timeout_ms)
    }

    fn lasting(limits: &Limits, total_ms: u64) -> Self {
        Self {
            idle: Duration::from_millis(limits.body_idle_timeout_ms),
            ends: Instant::now() + Duration::from_millis(total_ms),
        }
    }

    /// The next chunk; `None` at the end.
    pub async fn next<T, E: std::fmt::Display>(
        &self,
        stream: &mut (impl Stream<Item = Result<T, E>> + Unpin),
    ) -> Result<Option<T>, ApiError> {
        let next = timeout_at(self.ends, timeout(self.idle, stream.next())).await;
        match next {
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(Ok(item)))) => Ok(Some(item)),
            Ok(Ok(Some(Err(error)))) => Err(ApiError::new(
                ProblemCode::InvalidRequest,
                format!("the request body broke off: {error}"),
            )),
            Err(_) | Ok(Err(_)) => Err(ApiError::new(
                ProblemCode::InvalidRequest,
                "the request body came too slowly",
            )
            .with_status(actix_web::http::StatusCode::REQUEST_TIMEOUT)),
        }
    }
}

#[derive(Debug)]
enum Store {
    Memory(BytesMut),
    File(NamedTempFile),
}

/// An upload that is still arriving.
#[derive(Debug)]
pub(crate) struct Spool<'a> {
    limits: &'a Limits,
    hasher: Sha256,
    length: usize,
    store: Store,
}

/// An upload that has arrived and is an image as far as its header goes.
#[derive(Debug)]
pub(crate) struct Upload {
    pub image: Image,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Memory(Bytes),
    File(NamedTempFile),
}

impl Upload {
    pub fn body(&self) -> Body<'_> {
        match &self.data {
            Data::Memory(bytes) => Body::Memory(bytes),
            Data::File(file) => Body::File(Path::new(file.path())),
        }
    }
}

pub(crate) fn too_large(limits: &Limits) -> ApiError {
    ApiError::new(
        ProblemCode::ImageTooLarge,
        format!("an image may have up to {} bytes", limits.image_bytes_max),
    )
}

impl<'a> Spool<'a> {
    /// `expected` bytes are announced to come; what comes counts.
    pub fn new(limits: &'a Limits, expected: usize) -> Self {
        let in_memory = expected <= limits.spool_memory_bytes_max;
        let reserved = if in_memory { expected } else { 0 };
        Self {
            limits,
            hasher: Sha256::new(),
            length: 0,
            store: Store::Memory(BytesMut::with_capacity(reserved)),
        }
    }

    /// Takes one chunk; refuses as soon as a limit is passed, or when the first bytes are no image's.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        let before = self.length;
        self.length += chunk.len();
        if self.length > self.limits.image_bytes_max {
            return Err(too_large(self.limits));
        }
        self.hasher.update(chunk);
        let store = std::mem::replace(&mut self.store, Store::Memory(BytesMut::new()));
        self.store = match store {
            Store::Memory(mut buffer) if self.length <= self.limits.spool_memory_bytes_max => {
                buffer.extend_from_slice(chunk);
                Store::Memory(buffer)
            }
            Store::Memory(buffer) => {
                let mut file =
                    NamedTempFile::new().map_err(|error| ApiError::unavailable(&error))?;
                write(file.as_file_mut(), &buffer)?;
                write(file.as_file_mut(), chunk)?;
                Store::File(file)
            }
            Store::File(mut file) => {
                write(file.as_file_mut(), chunk)?;
                Store::File(file)
            }
        };
        // Not an image by its first bytes: no need to hear the rest.
        if before < sniff::MAGIC_BYTES
            && self.length >= sniff::MAGIC_BYTES
            && let Store::Memory(buffer) = &self.store
        {
            sniff::accept(buffer, self.limits)?;
        }
        Ok(())
    }

    /// The whole upload, or why it is no image.
    pub fn finish(self) -> Result<Upload, ApiError> {
        let (sniffed, data) = match self.store {
            Store::Memory(buffer) => {
                let bytes = buffer.freeze();
                (
                    sniff(Cursor::new(&bytes[..]), self.limits)?,
                    Data::Memory(bytes),
                )
            }
            Store::File(file) => {
                let open = File::open(file.path()).map_err(|error| ApiError::internal(&error))?;
                (sniff(BufReader::new(open), self.limits)?, Data::File(file))
            }
        };
        let image = Image {
            sha256: Sha256Digest::finish(self.hasher),
            upload: Uuid::now_v7(),
            content_type: sniffed.content_type.to_owned(),
            bytes: self.length as i64,
            width: sniffed.width.cast_signed(),
            height: sniffed.height.cast_signed(),
        };
        Ok(Upload { image, data })
    }
}

fn write(file: &mut File, bytes: &[u8]) -> Result<(), ApiError> {
    // Its disk may be full, which passes.
    file.write_all(bytes)
        .map_err(|error| ApiError::unavailable(&error))
}

/// Reads a raw body into a spool.
pub(crate) async fn receive(
    body: &mut Payload,
    clock: &BodyClock,
    expected: usize,
    limits: &Limits,
) -> Result<Upload, ApiError> {
    let mut spool = Spool::new(limits, expected);
    while let Some(chunk) = clock.next(body).await? {
        spool.push(&chunk)?;
    }
    spool.finish()
}
