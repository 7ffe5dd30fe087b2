//! The folder into which a package is unpacked while it is loaded.

use std::{
    ffi::OsStr,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

const PREFIX: &str = ".darkroom-package-";
const LOCK: &str = "lock";
/// A younger folder may belong to a worker that has not locked it yet.
const LEFT_AFTER: Duration = Duration::from_mins(1);

/// A folder of one unpacked package. It is deleted when this value is dropped.
#[derive(Debug)]
pub(super) struct PackageFolder {
    path: PathBuf,
    /// Locked as long as the process lives. The lock of a killed process is free.
    _lock: File,
}

impl PackageFolder {
    /// Makes an empty folder beside `package`, on the disk that has room for models. If that is not allowed, the folder lies
    /// where temporary files go (`TMPDIR`). Deletes folders that killed workers left there.
    ///
    /// # Errors
    /// Neither place can be written to.
    pub(super) fn beside(package: &Path) -> io::Result<Self> {
        let parent = package.parent().unwrap_or(Path::new("."));
        Self::in_folder(parent).or_else(|_| Self::in_folder(&std::env::temp_dir()))
    }

    fn in_folder(parent: &Path) -> io::Result<Self> {
        delete_left_folders(parent);
        let path = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path)?;
        let lock = File::create(path.join(LOCK)).and_then(|lock| lock.lock().map(|()| lock));
        match lock {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                drop(std::fs::remove_dir_all(&path));
                Err(error)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PackageFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), error.cause = %error, "cannot delete an unpacked package");
        }
    }
}

fn delete_left_folders(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_package_folder(&entry.file_name())) {
        let made_at = entry.metadata().and_then(|about| about.modified()).ok();
        let is_old = made_at.is_some_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_AFTER));
        if is_old && is_left(&entry.path()) {
            drop(std::fs::remove_dir_all(entry.path())); // another worker may be deleting it
        }
    }
}

fn is_package_folder(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX))
}

/// Whether no process holds the lock of the folder.
fn is_left(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        fs::File,
        time::{Duration, SystemTime},
    };

    use super::{LEFT_AFTER, PackageFolder};

    #[test]
    fn only_folders_of_dead_workers_are_deleted() {
        let cache = std::env::temp_dir().join(format!("packages-{:x}", rand::random::<u64>()));
        std::fs::create_dir(&cache).unwrap();
        let package = cache.join("package");
        let old = SystemTime::now() - LEFT_AFTER - Duration::from_secs(1);
        let make_old = |path| File::open(path).unwrap().set_modified(old).unwrap();

        let in_use = PackageFolder::beside(&package).unwrap();
        make_old(in_use.path());
        let left = cache.join(".darkroom-package-00000000000000ff");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("lock"), "").unwrap();
        make_old(&left);
        let young = cache.join(".darkroom-package-0000000000000001");
        std::fs::create_dir(&young).unwrap();
        let of_another = cache.join("diary");
        std::fs::create_dir(&of_another).unwrap();
        make_old(&of_another);

        let next = PackageFolder::beside(&package).unwrap();
        assert!(!left.exists());
        for kept in [in_use.path(), next.path(), &young, &of_another] {
            assert!(kept.exists(), "{}", kept.display());
        }
        let path = in_use.path().to_owned();
        drop(in_use);
        assert!(!path.exists());
        drop(next);
        std::fs::remove_dir_all(&cache).unwrap();
    }
}
