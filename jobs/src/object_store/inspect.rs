//! Reads an object once to learn what it is: its digest, its length, and its first bytes.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::{ObjectStore, StoreError};
use crate::Sha256Digest;

/// What was read of an object.
#[derive(Debug, Clone)]
pub struct InspectedObject {
    pub sha256: Sha256Digest,
    pub bytes: u64,
    /// The first bytes, as many as were asked for.
    pub beginning: Bytes,
}

impl InspectedObject {
    /// Whether the object is exactly these bytes.
    pub fn is(&self, sha256: Sha256Digest, bytes: i64) -> bool {
        self.sha256 == sha256 && i64::try_from(self.bytes) == Ok(bytes)
    }
}

impl ObjectStore {
    /// Reads an object that should have this digest and length, a chunk at a time. Keeps its first `beginning_bytes` in memory.
    /// Stops behind `bytes`: an object that is longer is another one. If the object is another one, reads it once more, as a
    /// broken transfer looks alike.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and [`StoreError::Corrupt`] are permanent, [`StoreError::Unavailable`] and
    /// [`StoreError::Refused`] are temporary.
    pub fn inspect<'a>(
        &'a self,
        key: &'a str,
        sha256: Sha256Digest,
        bytes: i64,
        beginning_bytes: usize,
    ) -> BoxFuture<'a, Result<InspectedObject, StoreError>> {
        Box::pin(async move {
            let bytes_max = u64::try_from(bytes).unwrap_or_default();
            for _ in 0..2 {
                let get = self.client.get_object().bucket(&self.bucket).key(key);
                let got = get.send().await;
                let got = got.map_err(|error| self.get_failure(key, &error))?;
                let inspected = read(got, bytes_max, beginning_bytes).await?;
                if inspected.is(sha256, bytes) {
                    return Ok(inspected);
                }
            }
            Err(StoreError::Corrupt(key.to_owned()))
        })
    }
}

async fn read(
    got: GetObjectOutput,
    bytes_max: u64,
    beginning_bytes: usize,
) -> Result<InspectedObject, StoreError> {
    let (mut body, mut hasher) = (got.body, Sha256::new());
    let (mut bytes, mut beginning) = (0, BytesMut::new());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
        let missing = beginning_bytes.saturating_sub(beginning.len());
        beginning.extend_from_slice(&chunk[..missing.min(chunk.len())]);
        if bytes > bytes_max {
            break;
        }
    }
    Ok(InspectedObject {
        sha256: Sha256Digest::finish(hasher),
        bytes,
        beginning: beginning.freeze(),
    })
}
