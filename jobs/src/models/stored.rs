//! Files of a pushed version in the object store: which ones are missing, and whether the other ones are what they must be.

use tokio::sync::Semaphore;

use super::{check::file_mistake, object_key};
use crate::{
    Sha256Digest,
    manifest::{Manifest, Mistake},
    object_store::{ObjectReader, ObjectStore, StoreError},
};

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

/// The mistake of a stored file, by the checks of a folder; `None` if the file can be registered. Reads the parts of the object
/// that the checks look at.
///
/// # Errors
/// The object cannot be read.
pub async fn stored_file_mistake(
    store: &ObjectStore,
    manifest: &Manifest,
    name: &str,
    file: WantedFile,
) -> Result<Option<Mistake>, StoreError> {
    let mut reader = ObjectReader::new(store.clone(), object_key(file.sha256), file.bytes);
    let (manifest, owned_name) = (manifest.clone(), name.to_owned());
    let checked = tokio::task::spawn_blocking(move || {
        file_mistake(&manifest, &owned_name, &mut reader, file.bytes)
    });
    let checked = checked.await;
    let checked = checked.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    checked.or_else(|error| match error.downcast::<StoreError>() {
        Ok(error) => Err(error),
        // Too many parts of the file have to be read.
        Err(error) => Ok(Some(Mistake {
            field: "artifact".into(),
            detail: format!("{name}: {error}"),
        })),
    })
}
