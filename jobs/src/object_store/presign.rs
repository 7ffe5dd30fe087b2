use std::{collections::BTreeMap, time::Duration};

use aws_sdk_s3::presigning::PresigningConfig;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;

use super::{ObjectStore, StoreError};
use crate::Sha256Digest;

/// A presigned request that puts one object: its sender needs no credentials.
#[derive(Debug, Clone)]
pub struct SignedPut {
    pub url: String,
    /// Headers that are signed with the request. The store refuses the request without them, and bytes that do not match them.
    pub headers: BTreeMap<String, String>,
}

impl ObjectStore {
    /// A request that stores exactly these bytes: their digest, length and type are signed. Valid for `valid_for`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: no credentials to sign with.
    pub fn presign_put<'a>(
        &'a self,
        key: &'a str,
        sha256: Sha256Digest,
        bytes: i64,
        content_type: &'a str,
        valid_for: Duration,
    ) -> BoxFuture<'a, Result<SignedPut, StoreError>> {
        Box::pin(async move {
            let presigning = PresigningConfig::expires_in(valid_for)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let put = self.client.put_object().bucket(&self.bucket).key(key);
            let put = put
                .checksum_sha256(STANDARD.encode(sha256.as_bytes()))
                .content_length(bytes)
                .content_type(content_type);
            let signed = put
                .presigned(presigning)
                .await
                .map_err(|error| self.failure(&error))?;
            let headers = signed.headers();
            Ok(SignedPut {
                url: signed.uri().to_owned(),
                headers: headers
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            })
        })
    }

    /// A URL that reads one object without credentials, valid for `valid_for`. Browsers save the object as `file_name`, which needs
    /// no escaping.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: no credentials to sign with.
    pub fn presign_get<'a>(
        &'a self,
        key: &'a str,
        file_name: &'a str,
        valid_for: Duration,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        Box::pin(async move {
            let presigning = PresigningConfig::expires_in(valid_for)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let get = self.client.get_object().bucket(&self.bucket).key(key);
            let disposition = format!("attachment; filename=\"{file_name}\"");
            let signed = get
                .response_content_disposition(disposition)
                .presigned(presigning)
                .await
                .map_err(|error| self.failure(&error))?;
            Ok(signed.uri().to_owned())
        })
    }
}
