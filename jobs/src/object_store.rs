//! The S3 bucket: images and model files, named by their content, and large results. An object is never a commit point; the
//! fenced row in Postgres is.

mod bucket_check;
mod config;
mod connect;
mod credentials;
mod endpoint;
mod facts;
mod failure;
mod inspect;
mod payload;
mod presign;
mod reader;
mod trust;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use aws_sdk_s3::{
    Client,
    error::SdkError,
    operation::{
        get_object::GetObjectError, head_object::HeadObjectError,
        put_object::builders::PutObjectFluentBuilder,
    },
    primitives::ByteStream,
    types::ServerSideEncryption,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

pub use self::{
    bucket_check::{BucketReport, CHECKS_PREFIX, Right},
    config::{Checksums, Encryption, StoreConfig},
    facts::ObjectFacts,
    inspect::InspectedObject,
    presign::SignedPut,
    reader::ObjectReader,
};
use self::{credentials::Expiry, endpoint::Place, payload::SignedDigest};
use crate::Sha256Digest;

/// Most memory to reserve for an object by the length that the store reports.
const RESERVED_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Permanent: a retry cannot help.
    #[error("no object {0}")]
    Missing(String),
    /// The bytes do not have the expected digest.
    #[error("object {0} does not have the digest it is named by")]
    Corrupt(String),
    /// Temporary: a retry may help.
    #[error("object store: {0}")]
    Unavailable(String),
    /// The store answers, but refuses the credentials, the region, the bucket or the kind of request. A retry helps after an
    /// operator has changed a setting: the text says which one to check.
    #[error("{0}")]
    Refused(String),
}

/// What to store: a small body from memory, or a large one from a spooled file.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    Memory(&'a Bytes),
    File(&'a Path),
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    pub key: String,
    pub bytes: i64,
    /// By the store's clock.
    pub modified_at: DateTime<Utc>,
}

/// The bucket. Its methods return boxed futures, so that only this crate compiles the code of the AWS SDK. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    client: Client,
    bucket: String,
    settings: Arc<Settings>,
}

/// How requests are made.
#[derive(Debug)]
struct Settings {
    place: Place,
    checksums: Checksums,
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    /// Of the credentials of this process.
    expiry: Expiry,
    /// By the last [`ObjectStore::check`]; true before the first one.
    verifies_checksums: AtomicBool,
}

impl ObjectStore {
    /// Makes the bucket, unless it exists.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub fn create_bucket(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            match self
                .client
                .create_bucket()
                .bucket(&self.bucket)
                .send()
                .await
            {
                Err(error)
                    if !error.as_service_error().is_some_and(|service| {
                        service.is_bucket_already_owned_by_you()
                            || service.is_bucket_already_exists()
                    }) =>
                {
                    Err(self.failure(&error))
                }
                _ => Ok(()),
            }
        })
    }

    /// Whether the bucket answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let head = self.client.head_bucket().bucket(&self.bucket).send().await;
            let Err(error) = head else { return Ok(()) };
            match error.raw_response().map(|raw| raw.status().as_u16()) {
                // The response to a HEAD has no body that could say why. The response to a listing has one.
                Some(300..500) => self.list("", "", 1).await.map(drop),
                _ => Err(self.failure(&error)),
            }
        })
    }

    /// Stores a body whose SHA-256 is known; the store itself refuses any other bytes.
    ///
    /// # Errors
    /// [`StoreError::Refused`], or [`StoreError::Unavailable`]: the object may be stored or not, but never with other bytes.
    pub fn put<'a>(
        &'a self,
        key: &'a str,
        body: Body<'a>,
        sha256: Sha256Digest,
        content_type: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let body = match body {
                Body::Memory(bytes) => ByteStream::from(bytes.clone()),
                Body::File(path) => ByteStream::from_path(path)
                    .await
                    .map_err(|error| StoreError::Unavailable(error.to_string()))?,
            };
            let put = self.put_request(key, content_type).body(body);
            // The store checks the bytes against their SHA-256, which is signed: as a checksum header, or as the digest of the
            // payload. A signature of the payload by the SDK would hash the bytes once more for no gain.
            let sent = match self.settings.checksums {
                Checksums::Sha256 => {
                    let put = put.checksum_sha256(STANDARD.encode(sha256.as_bytes()));
                    put.customize().disable_payload_signing().send().await
                }
                Checksums::Off => {
                    let put = put.customize().interceptor(SignedDigest(sha256));
                    put.send().await
                }
            };
            sent.map(drop).map_err(|error| self.failure(&error))
        })
    }

    /// A put with the encryption that the settings ask for, without a body and without a checksum.
    fn put_request(&self, key: &str, content_type: &str) -> PutObjectFluentBuilder {
        let put = self.client.put_object().bucket(&self.bucket).key(key);
        put.content_type(content_type)
            .set_server_side_encryption(self.settings.encryption.clone())
            .set_ssekms_key_id(self.settings.kms_key.clone())
    }

    /// Fetches a whole object and checks its digest. If the response ends early or has the wrong digest, the object is fetched
    /// once more. A second wrong digest means that the stored object is corrupt.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and [`StoreError::Corrupt`] are permanent, [`StoreError::Unavailable`] and
    /// [`StoreError::Refused`] are temporary.
    pub fn get<'a>(
        &'a self,
        key: &'a str,
        sha256: Sha256Digest,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            match self.get_once(key, sha256).await? {
                Ok(bytes) => Ok(bytes),
                Err(error) => {
                    tracing::debug!(key, error.cause = %error, "fetching the object once more");
                    self.get_once(key, sha256).await?
                }
            }
        })
    }

    /// The inner error is about the bytes: another attempt may succeed.
    async fn get_once(
        &self,
        key: &str,
        sha256: Sha256Digest,
    ) -> Result<Result<Bytes, StoreError>, StoreError> {
        let got = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await;
        let got = got.map_err(|error| self.get_failure(key, &error))?;
        let length = usize::try_from(got.content_length().unwrap_or_default()).unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(length.min(RESERVED_BYTES_MAX));
        // Hashed chunk by chunk, while the chunk is in the CPU's cache.
        let (mut body, mut hasher) = (got.body, Sha256::new());
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => {
                    hasher.update(&chunk);
                    bytes.extend_from_slice(&chunk);
                }
                Err(error) => return Ok(Err(StoreError::Unavailable(error.to_string()))),
            }
        }
        Ok(if Sha256Digest::finish(hasher) == sha256 {
            Ok(bytes.freeze())
        } else {
            Err(StoreError::Corrupt(key.to_owned()))
        })
    }

    /// The first `bytes_max` bytes of an object, or all of a shorter one.
    ///
    /// # Errors
    /// [`StoreError::Missing`] is permanent, [`StoreError::Unavailable`] and
    /// [`StoreError::Refused`] are temporary.
    pub fn get_beginning<'a>(
        &'a self,
        key: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            let get = self.client.get_object().bucket(&self.bucket).key(key);
            let got = get.range(format!("bytes=0-{}", bytes_max - 1)).send().await;
            let got = got.map_err(|error| self.get_failure(key, &error))?;
            let body = got.body.collect().await;
            let body = body.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            Ok(body.into_bytes())
        })
    }

    /// Whether an object exists.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub fn exists<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            match self
                .client
                .head_object()
                .bucket(&self.bucket)
                .key(key)
                .send()
                .await
            {
                Ok(_) => Ok(true),
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(HeadObjectError::is_not_found) =>
                {
                    Ok(false)
                }
                Err(error) => Err(self.failure(&error)),
            }
        })
    }

    /// Deletes an object, if it exists.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let delete = self.client.delete_object().bucket(&self.bucket).key(key);
            let deleted = delete.send().await;
            deleted.map(drop).map_err(|error| self.failure(&error))
        })
    }

    /// Up to `limit` objects (at most 1000) with keys that begin with `prefix` and follow `after`, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: i32,
    ) -> BoxFuture<'a, Result<Vec<StoredObject>, StoreError>> {
        Box::pin(async move {
            let page = self.client.list_objects_v2().bucket(&self.bucket);
            let page = page.prefix(prefix).start_after(after).max_keys(limit);
            let page = page.send().await.map_err(|error| self.failure(&error))?;
            let objects = page.contents.unwrap_or_default().into_iter();
            Ok(objects
                .filter_map(|object| {
                    let modified_at = object.last_modified?;
                    Some(StoredObject {
                        key: object.key?,
                        bytes: object.size?,
                        modified_at: DateTime::from_timestamp(
                            modified_at.secs(),
                            modified_at.subsec_nanos(),
                        )?,
                    })
                })
                .collect())
        })
    }

    fn get_failure(&self, key: &str, error: &SdkError<GetObjectError>) -> StoreError {
        let service = error.as_service_error();
        if service.is_some_and(GetObjectError::is_no_such_key) {
            StoreError::Missing(key.to_owned())
        } else {
            self.failure(error)
        }
    }
}
