//! Model files on disk, each named by its SHA-256: verified when fetched and whenever one is about to be loaded.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use jobs::{Sha256Digest, models::object_key, object_store::ObjectStore};

use super::LoadFault;

#[derive(Debug)]
pub(super) struct DiskCache {
    folder: PathBuf,
    store: ObjectStore,
}

impl DiskCache {
    pub(super) fn new(folder: PathBuf, store: ObjectStore) -> Self {
        Self { folder, store }
    }

    /// Where a file lies, and its length; fetched if it was not there, or not what it should be.
    pub(super) async fn file(&self, digest: Sha256Digest) -> Result<(PathBuf, u64), LoadFault> {
        let path = self.folder.join(digest.hex());
        let bytes = self.bytes(&path, digest).await?;
        Ok((path, bytes.len() as u64))
    }

    /// The lines of a text file.
    pub(super) async fn lines(&self, digest: Sha256Digest) -> Result<Vec<String>, LoadFault> {
        let bytes = self.bytes(&self.folder.join(digest.hex()), digest).await?;
        let text =
            std::str::from_utf8(&bytes).map_err(|error| LoadFault::Broken(error.to_string()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    async fn bytes(&self, path: &Path, digest: Sha256Digest) -> Result<Bytes, LoadFault> {
        let cached = path.to_owned();
        let cached = tokio::task::spawn_blocking(move || read_verified(&cached, digest)).await;
        if let Ok(Some(bytes)) = cached {
            return Ok(bytes);
        }
        let bytes = self.store.get(&object_key(digest), digest).await?;
        let (folder, path, stored) = (self.folder.clone(), path.to_owned(), bytes.clone());
        let written =
            tokio::task::spawn_blocking(move || write_atomically(&folder, &path, &stored)).await;
        match written {
            Ok(Ok(())) => Ok(bytes),
            Ok(Err(error)) => Err(LoadFault::Unavailable(format!("model cache: {error}"))),
            Err(panic) => Err(LoadFault::Unavailable(panic.to_string())),
        }
    }
}

/// The file, if it is there and is what its name says.
fn read_verified(path: &Path, digest: Sha256Digest) -> Option<Bytes> {
    let bytes = std::fs::read(path).ok()?;
    if Sha256Digest::of(&bytes) == digest {
        return Some(bytes.into());
    }
    tracing::warn!(path = %path.display(), "a cached model file is damaged: fetching it again");
    None
}

/// Under another name first, so that nobody ever reads half a file.
fn write_atomically(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let draft = folder.join(format!(
        ".{}-{:016x}",
        std::process::id(),
        rand::random::<u64>()
    ));
    let written = std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        drop(std::fs::remove_file(&draft));
    }
    written
}

#[cfg(test)]
mod tests {
    use jobs::Sha256Digest;

    use super::{read_verified, write_atomically};

    #[test]
    fn a_cached_file_is_used_only_while_it_is_what_its_name_says() {
        let folder =
            std::env::temp_dir().join(format!("darkroom-cache-{:x}", rand::random::<u64>()));
        let digest = Sha256Digest::of(b"weights");
        let path = folder.join(digest.hex());
        assert_eq!(read_verified(&path, digest), None, "not there yet");
        write_atomically(&folder, &path, b"weights").expect("written");
        assert_eq!(
            read_verified(&path, digest).as_deref(),
            Some(b"weights".as_slice())
        );
        std::fs::write(&path, b"weighty").expect("written");
        assert_eq!(read_verified(&path, digest), None, "damaged");
        write_atomically(&folder, &path, b"weights").expect("replaced");
        assert!(read_verified(&path, digest).is_some());
        let left = std::fs::read_dir(&folder).expect("folder").count();
        assert_eq!(left, 1, "no drafts stay behind");
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
