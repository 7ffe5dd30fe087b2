//! Model files on disk, each named by its SHA-256: verified when fetched and whenever one is about to be loaded. Those that
//! were not used for longest go when there are too many, or the disk is full.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use jobs::{Sha256Digest, models::object_key, object_store::ObjectStore};

use super::LoadFault;

/// What was used a moment ago stays: another worker of this machine may be about to load it.
const LEFT_ALONE_FOR: Duration = Duration::from_hours(1);

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
        let bytes_max = self.bytes_max;
        let written =
            tokio::task::spawn_blocking(move || keep(&folder, bytes_max, &path, &stored)).await;
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
        // Of a folder that may only be read nothing is removed either.
        drop(std::fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now())));
        return Some(bytes.into());
    }
    tracing::warn!(path = %path.display(), "a cached model file is damaged: fetching it again");
    None
}

/// Stores a file, in place of others if need be.
fn keep(folder: &Path, bytes_max: u64, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
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

/// The files that were not used for longest, until no more than so many bytes are left, or those left may not be removed. What a
/// process that was killed had half written is a file like others; what is not ours is left alone.
fn remove_unused(folder: &Path, bytes_max: u64) {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = files
        .filter(|entry| is_ours(&entry.file_name()))
        .filter_map(|entry| {
            let about = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect();
    files.sort_unstable();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    let is_old = |used_at: &SystemTime| used_at.elapsed().is_ok_and(|age| age > LEFT_ALONE_FOR);
    for (used_at, length, path) in files {
        if bytes <= bytes_max || !is_old(&used_at) {
            return;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), bytes = length, "removed from the model cache: not used for longest");
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {} // by another worker
            Err(error) => {
                tracing::warn!(path = %path.display(), error.cause = %error, "not removed from the model cache");
                continue;
            }
        }
        bytes -= length;
    }
}

/// A digest, or a draft.
fn is_ours(name: &OsStr) -> bool {
    let is_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    name.to_str().is_some_and(|name| {
        let draft = name.strip_prefix('.').and_then(|name| name.split_once('-'));
        is_hex(name, 64) || draft.is_some_and(|(_, random)| is_hex(random, 16))
    })
}

/// Under another name first, so that nobody ever reads half a file.
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

    use super::{LEFT_ALONE_FOR, keep, read_verified};

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("darkroom-cache-{:x}", rand::random::<u64>());
            Self(std::env::temp_dir().join(name))
        }

        fn keep(&self, bytes_max: u64, text: &str) -> PathBuf {
            let path = self.0.join(Sha256Digest::of(text.as_bytes()).hex());
            keep(&self.0, bytes_max, &path, text.as_bytes()).unwrap();
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

    fn not_used_for(path: &PathBuf, time: Duration) {
        let file = std::fs::File::open(path).unwrap();
        file.set_modified(SystemTime::now() - time).unwrap();
    }

    #[test]
    fn a_cached_file_is_used_only_while_it_is_what_its_name_says() {
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
    fn what_was_not_used_for_longest_makes_room() {
        let folder = Folder::new();
        let [old, older] = ["old", "older"].map(|text| folder.keep(18, text));
        not_used_for(&old, LEFT_ALONE_FOR * 2);
        not_used_for(&older, LEFT_ALONE_FOR * 3);
        folder.keep(18, "of today");
        assert_eq!(folder.texts(), ["of today", "old", "older"], "all fit");
        folder.keep(18, "new");
        assert_eq!(folder.texts(), ["new", "of today", "old"]);
    }

    #[test]
    fn what_was_read_a_moment_ago_stays_whatever_the_limit() {
        let folder = Folder::new();
        let path = folder.keep(10, "weights");
        not_used_for(&path, LEFT_ALONE_FOR * 2);
        read_verified(&path, Sha256Digest::of(b"weights")).unwrap();
        folder.keep(10, "labels");
        assert_eq!(folder.texts(), ["labels", "weights"]);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let folder = Folder::new();
        let draft = folder.keep(100, "draft");
        let half = folder.0.join(".4711-00000000000000ff");
        std::fs::rename(draft, &half).unwrap();
        let of_another = folder.0.join("diary.txt");
        std::fs::write(&of_another, "diary").unwrap();
        for path in [&half, &of_another] {
            not_used_for(path, LEFT_ALONE_FOR * 2);
        }
        folder.keep(1, "weights");
        assert_eq!(folder.texts(), ["diary", "weights"]);
    }
}
