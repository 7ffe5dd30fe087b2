//! Receives one upload: hashes and measures it as it arrives. A small upload stays in memory, a large one goes to a file.

use std::{
    fs::File,
    io::{BufReader, Cursor, Write},
    path::Path,
};

use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use decode::Format;
use jobs::{ProblemCode, Sha256Digest, images::Image, object_store::Body};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use uuid::Uuid;

use super::sniff::{accept, sniff};
use crate::{
    config::Limits,
    http::{body::BodyClock, error::ApiError},
};

#[derive(Debug)]
enum SpoolStorage {
    Memory(BytesMut),
    File(NamedTempFile),
}

/// An upload that is still arriving.
#[derive(Debug)]
pub(crate) struct Spool<'a> {
    limits: &'a Limits,
    hasher: Sha256,
    length: usize,
    storage: SpoolStorage,
}

/// An upload that has arrived. Its header is that of an image.
#[derive(Debug)]
pub(crate) struct Upload {
    pub image: Image,
    data: UploadData,
}

#[derive(Debug)]
enum UploadData {
    Memory(Bytes),
    File(NamedTempFile),
}

impl Upload {
    #[cfg(test)]
    pub fn is_in_file(&self) -> bool {
        matches!(self.data, UploadData::File(_))
    }

    pub fn body(&self) -> Body<'_> {
        match &self.data {
            UploadData::Memory(bytes) => Body::Memory(bytes),
            UploadData::File(file) => Body::File(Path::new(file.path())),
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
    /// Reserves memory for `announced` bytes, 0 if unknown. More or fewer may come.
    pub fn new(limits: &'a Limits, announced: usize) -> Self {
        let fits_memory = announced <= limits.spool_memory_bytes_max;
        let reserved = if fits_memory { announced } else { 0 };
        Self {
            limits,
            hasher: Sha256::new(),
            length: 0,
            storage: SpoolStorage::Memory(BytesMut::with_capacity(reserved)),
        }
    }

    /// How many bytes have arrived.
    pub fn bytes(&self) -> usize {
        self.length
    }

    /// Takes one chunk.
    ///
    /// # Errors
    /// The upload is too large, or its first bytes are not those of an accepted image type.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        let before = self.length;
        self.length += chunk.len();
        if self.length > self.limits.image_bytes_max {
            return Err(too_large(self.limits));
        }
        self.hasher.update(chunk);
        let storage = std::mem::replace(&mut self.storage, SpoolStorage::Memory(BytesMut::new()));
        self.storage = match storage {
            SpoolStorage::Memory(mut buffer)
                if self.length <= self.limits.spool_memory_bytes_max =>
            {
                buffer.extend_from_slice(chunk);
                SpoolStorage::Memory(buffer)
            }
            SpoolStorage::Memory(buffer) => {
                let mut file =
                    NamedTempFile::new().map_err(|error| ApiError::unavailable(&error))?;
                write(file.as_file_mut(), &buffer)?;
                write(file.as_file_mut(), chunk)?;
                SpoolStorage::File(file)
            }
            SpoolStorage::File(mut file) => {
                write(file.as_file_mut(), chunk)?;
                SpoolStorage::File(file)
            }
        };
        // A body that is no image is refused before the rest of it arrives.
        if before < Format::MAGIC_BYTES
            && self.length >= Format::MAGIC_BYTES
            && let SpoolStorage::Memory(buffer) = &self.storage
        {
            accept(buffer, self.limits)?;
        }
        Ok(())
    }

    /// Ends the upload.
    ///
    /// # Errors
    /// The bytes are no image that a worker could take.
    pub fn finish(self) -> Result<Upload, ApiError> {
        let (header, data) = match self.storage {
            SpoolStorage::Memory(buffer) => {
                let bytes = buffer.freeze();
                (
                    sniff(Cursor::new(&bytes[..]), self.limits)?,
                    UploadData::Memory(bytes),
                )
            }
            SpoolStorage::File(file) => {
                let open = File::open(file.path()).map_err(|error| ApiError::internal(&error))?;
                (
                    sniff(BufReader::new(open), self.limits)?,
                    UploadData::File(file),
                )
            }
        };
        let image = Image {
            sha256: Sha256Digest::finish(self.hasher),
            upload: Uuid::now_v7(),
            content_type: header.format.content_type().to_owned(),
            bytes: self.length as i64,
            width: header.width.cast_signed(),
            height: header.height.cast_signed(),
        };
        Ok(Upload { image, data })
    }
}

fn write(file: &mut File, bytes: &[u8]) -> Result<(), ApiError> {
    // 503, not 500: a full disk passes.
    file.write_all(bytes)
        .map_err(|error| ApiError::unavailable(&error))
}

/// Reads a raw body into a spool.
pub(crate) async fn receive(
    body: &mut Payload,
    clock: &BodyClock,
    announced: usize,
    limits: &Limits,
) -> Result<Upload, ApiError> {
    let mut spool = Spool::new(limits, announced);
    while let Some(chunk) = clock.next(body).await? {
        spool.push(&chunk)?;
    }
    spool.finish()
}
