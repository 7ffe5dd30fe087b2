//! Model files on disk, each named by its SHA-256. A file is verified when it is fetched and before each load.
//!
//! The least recently used files are removed when the files take too many bytes, or when the disk is full.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use jobs::{Sha256Digest, manifest::read_labels, models::object_key, object_store::ObjectStore};

use super::load_error::LoadError;

/// A file stays at least so long after its last use: another worker of this machine may be about to load it.
const KEPT_AFTER_USE: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(super) struct DiskCache {
    folder: PathBuf,
    bytes_max: u64,
    store: ObjectStore,
}

impl DiskCache {
    pub(super) fn new(folder: PathBuf, bytes_max: u64, store: ObjectStore) -> Self {
        Self {
            folder,
            bytes_max,
            store,
        }
    }

    /// The path of a file and its length in bytes. Fetches a file that is missing or damaged.
    pub(super) async fn file(&self, digest: Sha256Digest) -> Result<(PathBuf, u64), LoadError> {
        let path = self.folder.join(digest.hex());
        let bytes = self.bytes(&path, digest).await?;
        Ok((path, bytes.len() as u64))
    }

    /// The labels in a file. Fetches a file that is missing or damaged.
    pub(super) async fn labels(&self, digest: Sha256Digest) -> Result<Vec<String>, LoadError> {
        let bytes = self.bytes(&self.folder.join(digest.hex()), digest).await?;
        read_labels(&bytes).map_err(|mistakes| {
            let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            LoadError::Broken(mistakes.join("; "))
        })
    }

    async fn bytes(&self, path: &Path, digest: Sha256Digest) -> Result<Bytes, LoadError> {
        let cached = path.to_owned();
        let cached = tokio::task::spawn_blocking(move || read_verified(&cached, digest)).await;
        if let Ok(Some(bytes)) = cached {
            return Ok(bytes);
        }
        let bytes = self.store.get(&object_key(digest), digest).await?;
        let (folder, path, stored) = (self.folder.clone(), path.to_owned(), bytes.clone());
        let bytes_max = self.bytes_max;
        let written =
            tokio::task::spawn_blocking(move || write_file(&folder, bytes_max, &path, &stored))
                .await;
        match written {
            Ok(Ok(())) => Ok(bytes),
            Ok(Err(error)) => Err(LoadError::Unavailable(format!("model cache: {error}"))),
            Err(panic) => Err(LoadError::Unavailable(panic.to_string())),
        }
    }
}

/// The bytes of the file, if it exists and has its digest.
fn read_verified(path: &Path, digest: Sha256Digest) -> Option<Bytes> {
    let bytes = std::fs::read(path).ok()?;
    if Sha256Digest::of(&bytes) == digest {
        // The time of the last use. It may fail in a read-only folder, where no file can be removed either.
        drop(std::fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now())));
        return Some(bytes.into());
    }
    tracing::warn!(path = %path.display(), "a cached model file is damaged; fetching it again");
    None
}

/// Writes a file, and removes others if the cache or the disk is full.
fn write_file(folder: &Path, bytes_max: u64, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let length = bytes.len() as u64;
    std::fs::create_dir_all(folder)?;
    remove_unused(folder, bytes_max.saturating_sub(length));
    match write_atomically(folder, path, bytes) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) =>
        {
            remove_unused(folder, 0);
            write_atomically(folder, path, bytes)
        }
        written => written,
    }
}

/// Removes the least recently used files until at most `bytes_max` bytes are left, or until all others were used recently.
///
/// Drafts that a killed process left are removed like other files. Files of other programs stay.
fn remove_unused(folder: &Path, bytes_max: u64) {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = files
        .filter(|entry| is_cache_file(&entry.file_name()))
        .filter_map(|entry| {
            let about = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect();
    files.sort_unstable();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    let is_old = |used_at: &SystemTime| used_at.elapsed().is_ok_and(|age| age > KEPT_AFTER_USE);
    for (used_at, length, path) in files {
        if bytes <= bytes_max || !is_old(&used_at) {
            return;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), bytes = length, "removed the least recently used file from the model cache");
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {} // another worker removed it
            Err(error) => {
                tracing::warn!(path = %path.display(), error.cause = %error, "cannot remove a file from the model cache");
                continue;
            }
        }
        bytes -= length;
    }
}

/// Whether the name is a digest or that of a draft.
fn is_cache_file(name: &OsStr) -> bool {
    let is_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    name.to_str().is_some_and(|name| {
        let draft = name.strip_prefix('.').and_then(|name| name.split_once('-'));
        is_hex(name, 64) || draft.is_some_and(|(_, random)| is_hex(random, 16))
    })
}

/// Writes a draft and renames it, so that no reader sees a part of the file.
fn write_atomically(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
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
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        path::PathBuf,
        time::{Duration, SystemTime},
    };

    use jobs::Sha256Digest;

    use super::{KEPT_AFTER_USE, read_verified, write_file};

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("darkroom-cache-{:x}", rand::random::<u64>());
            Self(std::env::temp_dir().join(name))
        }

        fn keep(&self, bytes_max: u64, text: &str) -> PathBuf {
            let path = self.0.join(Sha256Digest::of(text.as_bytes()).hex());
            write_file(&self.0, bytes_max, &path, text.as_bytes()).unwrap();
            path
        }

        fn texts(&self) -> Vec<String> {
            let files = std::fs::read_dir(&self.0).unwrap().flatten();
            let mut texts: Vec<_> = files
                .map(|file| std::fs::read_to_string(file.path()).unwrap())
                .collect();
            texts.sort_unstable();
            texts
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn set_unused_for(path: &PathBuf, time: Duration) {
        let file = std::fs::File::open(path).unwrap();
        file.set_modified(SystemTime::now() - time).unwrap();
    }

    #[test]
    fn a_cached_file_is_used_only_while_it_has_its_digest() {
        let folder = Folder::new();
        let digest = Sha256Digest::of(b"weights");
        assert_eq!(read_verified(&folder.0.join(digest.hex()), digest), None);
        let path = folder.keep(100, "weights");
        let read = || read_verified(&path, digest);
        assert_eq!(read().as_deref(), Some(b"weights".as_slice()));
        std::fs::write(&path, b"weighty").unwrap();
        assert_eq!(read(), None, "damaged");
        folder.keep(100, "weights");
        assert!(read().is_some());
        assert_eq!(folder.texts(), ["weights"], "no drafts stay behind");
    }

    #[test]
    fn the_least_recently_used_file_makes_room() {
        let folder = Folder::new();
        let [old, older] = ["old", "older"].map(|text| folder.keep(18, text));
        set_unused_for(&old, KEPT_AFTER_USE * 2);
        set_unused_for(&older, KEPT_AFTER_USE * 3);
        folder.keep(18, "of today");
        assert_eq!(folder.texts(), ["of today", "old", "older"], "all fit");
        folder.keep(18, "new");
        assert_eq!(folder.texts(), ["new", "of today", "old"]);
    }

    #[test]
    fn a_file_that_was_just_read_stays_whatever_the_limit() {
        let folder = Folder::new();
        let path = folder.keep(10, "weights");
        set_unused_for(&path, KEPT_AFTER_USE * 2);
        read_verified(&path, Sha256Digest::of(b"weights")).unwrap();
        folder.keep(10, "labels");
        assert_eq!(folder.texts(), ["labels", "weights"]);
    }

    #[test]
    fn files_of_other_programs_stay() {
        let folder = Folder::new();
        let draft = folder.keep(100, "draft");
        let half = folder.0.join(".4711-00000000000000ff");
        std::fs::rename(draft, &half).unwrap();
        let of_another = folder.0.join("diary.txt");
        std::fs::write(&of_another, "diary").unwrap();
        for path in [&half, &of_another] {
            set_unused_for(path, KEPT_AFTER_USE * 2);
        }
        folder.keep(1, "weights");
        assert_eq!(folder.texts(), ["diary", "weights"]);
    }
}
