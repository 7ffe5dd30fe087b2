//! What is known of a large object without holding it in memory: its size, its digest, its parts.

use aws_sdk_s3::{operation::head_object::HeadObjectError, types::ChecksumMode};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::{ObjectStore, StoreError};
use crate::Sha256Digest;

/// What the store says about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectFacts {
    pub bytes: u64,
    /// The digest that the store has checked when the object was put. Not every store keeps it.
    pub sha256: Option<Sha256Digest>,
}

impl ObjectStore {
    /// The size of an object, and its digest if the store knows it; `None` if there is no such object.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub fn facts<'a>(
        &'a self,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<ObjectFacts>, StoreError>> {
        Box::pin(async move {
            let head = self.client.head_object().bucket(&self.bucket).key(key);
            match head.checksum_mode(ChecksumMode::Enabled).send().await {
                Ok(head) => Ok(Some(ObjectFacts {
                    bytes: head.content_length().unwrap_or_default().max(0) as u64,
                    // The checksum of an object in parts is another one, with a number behind it: it is no base64.
                    sha256: head
                        .checksum_sha256()
                        // Some stores keep a checksum that they have not compared with the bytes.
                        .filter(|_| self.verifies_checksums())
                        .and_then(|text| {
                            let digest = STANDARD.decode(text).ok()?;
                            digest.as_slice().try_into().ok()
                        }),
                })),
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(HeadObjectError::is_not_found) =>
                {
                    Ok(None)
                }
                Err(error) => Err(self.failure(&error)),
            }
        })
    }

    /// The SHA-256 of an object. Reads all of it, a chunk at a time.
    ///
    /// # Errors
    /// [`StoreError::Missing`] is permanent, [`StoreError::Unavailable`] and
    /// [`StoreError::Refused`] are temporary.
    pub fn hash<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Sha256Digest, StoreError>> {
        Box::pin(async move {
            let get = self.client.get_object().bucket(&self.bucket).key(key);
            let got = get
                .send()
                .await
                .map_err(|error| self.get_failure(key, &error))?;
            let (mut body, mut hasher) = (got.body, Sha256::new());
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                hasher.update(&chunk);
            }
            Ok(Sha256Digest::finish(hasher))
        })
    }

    /// `length` bytes of an object from `first` on; `length` is at least 1.
    ///
    /// # Errors
    /// [`StoreError::Missing`] is permanent, [`StoreError::Unavailable`] and
    /// [`StoreError::Refused`] are temporary.
    pub fn get_range<'a>(
        &'a self,
        key: &'a str,
        first: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            let get = self.client.get_object().bucket(&self.bucket).key(key);
            let range = format!("bytes={first}-{}", first + length - 1);
            let got = get.range(range).send().await;
            let got = got.map_err(|error| self.get_failure(key, &error))?;
            let body = got.body.collect().await;
            let body = body.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            Ok(body.into_bytes())
        })
    }
}
