//! URLs for clients without credentials.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    presigning::{PresignedRequest, PresigningConfig},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use futures_util::future::BoxFuture;

use super::{Checksums, ObjectStore, StoreError};
use crate::Sha256Digest;

/// A presigned request that puts one object: its sender needs no credentials.
#[derive(Debug, Clone)]
pub struct SignedPut {
    pub url: String,
    /// Headers that are signed with the request. The store refuses the request without them, and bytes that do not match them.
    pub headers: BTreeMap<String, String>,
    /// When the URL expires: never after the credentials that signed it.
    pub expires_at: DateTime<Utc>,
}

/// How long a URL is valid that is signed at `now`: until the credentials expire, if that is sooner than asked for.
fn validity(
    asked: Duration,
    now: DateTime<Utc>,
    credentials_expire: Option<DateTime<Utc>>,
) -> Duration {
    let left = credentials_expire.map(|at| (at - now).to_std().unwrap_or_default());
    // S3 takes whole seconds, and at least one.
    let seconds = left.map_or(asked, |left| left.min(asked)).as_secs();
    Duration::from_secs(seconds.max(1))
}

impl ObjectStore {
    /// A request that stores exactly these bytes: their digest, length and type are signed. Valid for `valid_for`, but no longer
    /// than the credentials. With [`Checksums::Off`] the digest is not signed, and the store takes other bytes of this length.
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
            let digest = STANDARD.encode(sha256.as_bytes());
            let checksum = (self.settings.checksums == Checksums::Sha256).then_some(digest);
            let put = |presigning| {
                let put = self.put_request(key, content_type).content_length(bytes);
                let put = put.set_checksum_sha256(checksum.clone());
                put.presigned(presigning)
            };
            let (signed, expires_at) = self.sign(valid_for, put).await?;
            let headers = signed.headers();
            Ok(SignedPut {
                expires_at,
                url: signed.uri().to_owned(),
                headers: headers
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            })
        })
    }

    /// A URL that reads one object without credentials, valid for `valid_for`, but no longer than the credentials. Browsers save
    /// the object as `file_name`, which needs no escaping.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`]: no credentials to sign with.
    pub fn presign_get<'a>(
        &'a self,
        key: &'a str,
        file_name: &'a str,
        valid_for: Duration,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        Box::pin(async move {
            let get = |presigning| {
                let get = self.client.get_object().bucket(&self.bucket).key(key);
                let disposition = format!("attachment; filename=\"{file_name}\"");
                let get = get.response_content_disposition(disposition);
                get.presigned(presigning)
            };
            let (signed, _) = self.sign(valid_for, get).await?;
            Ok(signed.uri().to_owned())
        })
    }

    /// Signs a request, and once more for a shorter time if the credentials that signed it expire sooner. Returns when it expires.
    async fn sign<F, E>(
        &self,
        valid_for: Duration,
        request: impl Fn(PresigningConfig) -> F,
    ) -> Result<(PresignedRequest, DateTime<Utc>), StoreError>
    where
        F: Future<Output = Result<PresignedRequest, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let mut asked = valid_for;
        loop {
            // Signatures have whole seconds.
            let now = Utc::now().trunc_subsecs(0);
            let presigning = PresigningConfig::builder()
                .start_time(now.into())
                .expires_in(asked)
                .build()
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let signed = request(presigning)
                .await
                .map_err(|error| self.failure(&error))?;
            // Known only now: the first signature makes the SDK fetch the credentials.
            let valid = validity(asked, now, self.settings.expiry.get());
            if valid >= asked {
                let valid = TimeDelta::from_std(asked).unwrap_or(TimeDelta::MAX);
                return Ok((signed, now + valid));
            }
            asked = valid;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{TimeDelta, Utc};

    use super::validity;

    #[test]
    fn a_url_expires_with_the_credentials_that_signed_it() {
        let now = Utc::now();
        let hour = Duration::from_hours(1);
        let after = |seconds| Some(now + TimeDelta::seconds(seconds));
        assert_eq!(validity(hour, now, None), hour);
        assert_eq!(validity(hour, now, after(7200)), hour);
        assert_eq!(validity(hour, now, after(60)), Duration::from_mins(1));
        assert_eq!(validity(hour, now, after(-5)), Duration::from_secs(1));
    }
}
