//! Files of a pushed version in the object store: which ones are missing, and whether the other ones are what they must be.

use std::io::Cursor;

use tokio::sync::Semaphore;

use super::{
    check::{LABELS_BYTES_MAX, file_mistake},
    object_key,
};
use crate::{
    Sha256Digest,
    manifest::{Manifest, Mistake},
    object_store::{ObjectEnds, ObjectStore, StoreError},
};

/// So many bytes at the beginning and at the end of an artifact are looked at.
pub const ENDS_BYTES: u64 = 4 << 20;

/// Files that one process hashes at a time: a hash takes a core and the network.
static HASHES: Semaphore = Semaphore::const_new(2);

/// What the store has under the digest of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredFile {
    /// No object, or an object with other bytes: the file has to be uploaded.
    Missing,
    /// The file is stored, but it has another size than the push says.
    OtherSize(u64),
    Found,
}

/// What a push says about one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedFile {
    pub sha256: Sha256Digest,
    pub bytes: u64,
}

/// Looks for a file in the store. Hashes its object if the store has not checked the digest itself, unless `is_trusted` or the
/// object has more than `bytes_max` bytes.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub async fn find_file(
    store: &ObjectStore,
    file: WantedFile,
    bytes_max: u64,
    is_trusted: bool,
) -> Result<StoredFile, StoreError> {
    let key = object_key(file.sha256);
    let Some(facts) = store.facts(&key).await? else {
        return Ok(StoredFile::Missing);
    };
    let is_right = match facts.sha256 {
        Some(stored) => stored == file.sha256,
        None if is_trusted || facts.bytes > bytes_max => true,
        None => {
            let _turn = HASHES.acquire().await.expect("never closed");
            match store.hash(&key).await {
                Ok(stored) => stored == file.sha256,
                Err(StoreError::Missing(_)) => false, // deleted meanwhile
                Err(error) => return Err(error),
            }
        }
    };
    Ok(if !is_right {
        StoredFile::Missing
    } else if facts.bytes == file.bytes {
        StoredFile::Found
    } else {
        StoredFile::OtherSize(facts.bytes)
    })
}

/// The mistake of a stored file, by the checks of a folder; `None` if the file can be registered.
///
/// # Errors
/// The object cannot be read.
pub async fn stored_file_mistake(
    store: &ObjectStore,
    manifest: &Manifest,
    name: &str,
    file: WantedFile,
) -> Result<Option<Mistake>, StoreError> {
    let (key, bytes) = (object_key(file.sha256), file.bytes);
    let mistake = if manifest.labels.as_deref() == Some(name) {
        let labels = store.get_beginning(&key, LABELS_BYTES_MAX + 1).await?;
        file_mistake(manifest, name, &mut Cursor::new(labels))
    } else {
        let beginning = store.get_beginning(&key, ENDS_BYTES).await?;
        let rest = bytes.saturating_sub(ENDS_BYTES);
        let end = match rest.min(ENDS_BYTES) {
            0 => bytes::Bytes::new(),
            length => store.get_range(&key, bytes - length, length).await?,
        };
        file_mistake(manifest, name, &mut ObjectEnds::new(beginning, end, bytes))
    };
    mistake.map_err(|error| StoreError::Unavailable(error.to_string()))
}
