//! Tries on a small object what an API process does with the bucket.

use std::sync::atomic::Ordering;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Body, Checksums, ObjectStore, StoreError};
use crate::Sha256Digest;

/// Key prefix of check objects. The sweep deletes those of processes that died during a check.
pub const CHECKS_PREFIX: &str = "checks/";

const CONTENT_TYPE: &str = "application/octet-stream";

/// What the store lets this process do. Reads and puts are not listed: without these there is no report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketReport {
    pub missing_rights: Vec<Right>,
    /// Whether the store refuses a put whose bytes differ from their signed checksum. If not, it takes other bytes for a signed
    /// upload too.
    pub verifies_checksums: bool,
}

/// A right that Darkroom can do without for a while: jobs run, but something is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    List,
    Delete,
}

impl Right {
    /// The name of the right in policies of S3.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "s3:ListBucket",
            Self::Delete => "s3:DeleteObject",
        }
    }

    /// What does not work without the right.
    pub fn needed_for(self) -> &'static str {
        match self {
            Self::List => "signed uploads are not found, and objects without a row are not swept",
            Self::Delete => "deleted images and results stay in the bucket",
        }
    }
}

impl ObjectStore {
    /// The bucket and its endpoint, as texts for an operator: `bucket `photos` at http://store:9000`.
    pub fn place(&self) -> String {
        self.settings.place.to_string()
    }

    /// The URL of the endpoint; `Amazon S3 in REGION` without one.
    pub fn endpoint(&self) -> String {
        self.settings.place.endpoint()
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The settings that name bucket and endpoint: the first ones to check.
    pub fn place_settings(&self) -> String {
        self.settings.place.settings()
    }

    /// Whether the store refuses bytes that differ from a signed checksum, as the last check found. If not, objects of signed
    /// uploads may have any bytes.
    pub fn verifies_checksums(&self) -> bool {
        self.settings.verifies_checksums.load(Ordering::Relaxed)
    }

    /// Puts, reads, lists and deletes an object whose key ends with `name`; at the end there is no object. Processes that check
    /// at the same time need different names.
    ///
    /// # Errors
    /// [`StoreError::Refused`] until an operator has changed a setting, or [`StoreError::Unavailable`]. The text names the step,
    /// the place, and what to check.
    pub fn check(&self, name: Uuid) -> BoxFuture<'_, Result<BucketReport, StoreError>> {
        Box::pin(async move {
            let key = format!("{CHECKS_PREFIX}{}", name.simple());
            let bytes = Bytes::from(format!("check object of Darkroom {name}"));
            let sha256 = Sha256Digest::of(&bytes);
            let put = self.put(&key, Body::Memory(&bytes), sha256, CONTENT_TYPE);
            match put.await {
                Ok(()) => {}
                Err(error) => return Err(self.explain_put(&key, error, bytes).await),
            }
            let read = self.get(&key, sha256).await;
            read.map_err(|error| self.step_failed("reading the check object", error))?;
            let mut missing_rights = Vec::new();
            let listed = self.list(&key, "", 1).await;
            match optional(listed).map_err(|error| self.step_failed("listing the bucket", error))? {
                Some(objects) if objects.is_empty() => {
                    return Err(StoreError::Unavailable(format!(
                        "a listing lacks an object that was just put; {}",
                        self.place()
                    )));
                }
                Some(_) => {}
                None => missing_rights.push(Right::List),
            }
            let verifies_checksums = self.find_verifies_checksums(&key, sha256).await?;
            let known = &self.settings.verifies_checksums;
            known.store(verifies_checksums, Ordering::Relaxed);
            let deleted = self.delete(&key).await;
            let deleted = optional(deleted);
            if deleted
                .map_err(|error| self.step_failed("deleting the check object", error))?
                .is_none()
            {
                missing_rights.push(Right::Delete);
            }
            Ok(BucketReport {
                missing_rights,
                verifies_checksums,
            })
        })
    }

    /// Whether the store refuses other bytes than those with the signed digest.
    async fn find_verifies_checksums(
        &self,
        key: &str,
        sha256: Sha256Digest,
    ) -> Result<bool, StoreError> {
        if self.settings.checksums == Checksums::Off {
            return Ok(false); // a signed upload carries no checksum
        }
        // As a signed upload: the checksum header is signed, the bytes are not.
        let put = self.put_request(key, CONTENT_TYPE);
        let put = put.checksum_sha256(STANDARD.encode(sha256.as_bytes()));
        let put = put.body(Bytes::from_static(b"other bytes").into());
        let put = put.customize().disable_payload_signing().send().await;
        match put {
            Ok(_) => Ok(false),
            Err(error) => match error.raw_response().map(|raw| raw.status().as_u16()) {
                Some(400..500) => Ok(true),
                _ => Err(self.step_failed("putting other bytes", self.failure(&error))),
            },
        }
    }

    /// The error of the first put. Says so if the store only refuses the checksum header.
    async fn explain_put(&self, key: &str, error: StoreError, bytes: Bytes) -> StoreError {
        let error = self.step_failed("putting a check object", error);
        if self.settings.checksums == Checksums::Off || !matches!(error, StoreError::Refused(_)) {
            return error;
        }
        let plain = self.put_request(key, CONTENT_TYPE).body(bytes.into());
        if plain.send().await.is_err() {
            return error;
        }
        drop(self.delete(key).await);
        StoreError::Refused(format!(
            "the store refuses `x-amz-checksum-sha256`, and takes a put without it: set DARKROOM_S3_CHECKSUMS=off \
             (--s3-checksums off); {error}"
        ))
    }

    /// An error of a check that says what was tried, and for a store without an answer where it was looked for.
    fn step_failed(&self, step: &str, error: StoreError) -> StoreError {
        match error {
            StoreError::Unavailable(cause) => StoreError::Unavailable(format!(
                "{step} failed: check {}: {cause}",
                self.place_settings()
            )),
            StoreError::Refused(advice) => StoreError::Refused(format!("{step} failed: {advice}")),
            StoreError::Missing(_) | StoreError::Corrupt(_) => {
                StoreError::Unavailable(format!("{step} failed: {error}; {}", self.place()))
            }
        }
    }
}

/// `None` if the store refuses the request: the bucket works otherwise, because the steps before did.
fn optional<T>(result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
