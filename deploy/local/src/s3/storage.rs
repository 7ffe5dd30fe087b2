//! Objects in a directory: an upload is visible whole, verified and on disk, or not at all.
//!
//! Knows neither HTTP nor S3. Names of files are hashes of keys, so that no key, `..` or other,
//! can name a place outside its bucket.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::folder_sync::FolderSync;
use super::object_file::{self, Description};

/// A directory of buckets, and one for uploads under way on the same file system.
#[derive(Debug)]
pub(crate) struct Storage {
    buckets: PathBuf,
    uploads: PathBuf,
    /// Of buckets that were written to, by their folder.
    folder_syncs: Mutex<HashMap<PathBuf, Arc<FolderSync>>>,
}

/// An upload under way: dropped without [`Storage::commit`], it leaves nothing behind.
pub(crate) struct Upload {
    file: File,
    path: TempPath,
    sha256: Sha256,
    size_bytes: u64,
}

/// What a client says about the object it uploads.
#[derive(Debug, Default)]
pub(crate) struct NewObject {
    pub(crate) key: String,
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Refuse to replace an object of this key (`If-None-Match: *`).
    pub(crate) only_if_absent: bool,
    /// Lower-case hex; the upload is refused when its bytes have another.
    pub(crate) sha256_expected: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("no bucket {0}")]
    NoSuchBucket(String),
    #[error("an object of this key exists")]
    Exists,
    #[error("the bytes have another SHA-256 than the upload said")]
    WrongChecksum,
    #[error("the part begins behind the object's end")]
    PastTheEnd,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Storage {
    /// Opens `root`, making it if need be; uploads that an earlier process left are thrown away.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let storage = Self {
            buckets: root.join("buckets"),
            uploads: root.join("uploads"),
            folder_syncs: Mutex::default(),
        };
        match fs::remove_dir_all(&storage.uploads) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&storage.buckets)?;
        fs::create_dir_all(&storage.uploads)?;
        sync_folder(root)?;
        Ok(storage)
    }

    pub(crate) fn create_bucket(&self, bucket: &str) -> Result<(), StorageError> {
        match fs::create_dir(self.folder(bucket)?) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        Ok(sync_folder(&self.buckets)?)
    }

    /// The bucket's folder, or [`StorageError::NoSuchBucket`].
    fn existing(&self, bucket: &str) -> Result<PathBuf, StorageError> {
        let folder = self.folder(bucket)?;
        if folder.is_dir() {
            Ok(folder)
        } else {
            Err(StorageError::NoSuchBucket(bucket.into()))
        }
    }

    pub(crate) fn check_bucket(&self, bucket: &str) -> Result<(), StorageError> {
        self.existing(bucket).map(drop)
    }

    /// Every bucket's name, in order.
    pub(crate) fn buckets(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.buckets)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn begin(&self) -> io::Result<Upload> {
        let (file, path) = tempfile::NamedTempFile::new_in(&self.uploads)?.into_parts();
        Ok(Upload {
            file,
            path,
            sha256: Sha256::new(),
            size_bytes: 0,
        })
    }

    /// Verifies an upload and makes it visible. When this returns, it survives a power cut.
    pub(crate) fn commit(
        &self,
        mut upload: Upload,
        bucket: &str,
        object: NewObject,
    ) -> Result<Description, StorageError> {
        let folder = self.existing(bucket)?;
        let sha256 = hex::encode(upload.sha256.finalize());
        if object
            .sha256_expected
            .is_some_and(|expected| expected != sha256)
        {
            return Err(StorageError::WrongChecksum);
        }
        let path = folder.join(file_name(&object.key));
        let description = Description {
            key: object.key,
            size_bytes: upload.size_bytes,
            sha256,
            content_type: object.content_type,
            metadata: object.metadata,
            written_at_us: chrono::Utc::now().timestamp_micros(),
        };
        object_file::finish(&mut upload.file, &description)?;
        upload.file.sync_all()?;
        if object.only_if_absent {
            upload.path.persist_noclobber(&path).map_err(|refused| {
                if refused.error.kind() == io::ErrorKind::AlreadyExists {
                    StorageError::Exists
                } else {
                    refused.error.into()
                }
            })?;
        } else {
            upload
                .path
                .persist(&path)
                .map_err(|refused| refused.error)?;
        }
        self.sync(folder)?;
        Ok(description)
    }

    /// The object and its file, cursor at the first byte of the body.
    pub(crate) fn open_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<(Description, File)>, StorageError> {
        match File::open(self.existing(bucket)?.join(file_name(key))) {
            Ok(file) => Ok(Some((object_file::describe(&file)?, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an object; one that is not there is no error, as in S3.
    pub(crate) fn delete(&self, bucket: &str, key: &str) -> Result<(), StorageError> {
        let folder = self.existing(bucket)?;
        match fs::remove_file(folder.join(file_name(key))) {
            Ok(()) => Ok(self.sync(folder)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Every object whose key starts with `prefix`, by key. Opens each file: for one machine only.
    pub(crate) fn list(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<Vec<Description>, StorageError> {
        let mut objects = Vec::new();
        for entry in fs::read_dir(self.existing(bucket)?)? {
            let file = match File::open(entry?.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // deleted meanwhile
                opened => opened?,
            };
            let object = object_file::describe(&file)?;
            if object.key.starts_with(prefix) {
                objects.push(object);
            }
        }
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Makes the names in a bucket's folder survive a power cut, together with others that want the same.
    fn sync(&self, folder: PathBuf) -> io::Result<()> {
        let mut all = self.folder_syncs.lock().expect("no panic while it is held");
        let sync = all
            .entry(folder)
            .or_insert_with_key(|folder| Arc::new(FolderSync::new(folder.clone())))
            .clone();
        drop(all);
        sync.flush()
    }

    fn folder(&self, bucket: &str) -> Result<PathBuf, StorageError> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c);
        let starts_well = bucket.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && bucket.len() <= 63 && bucket.bytes().all(plain) {
            Ok(self.buckets.join(bucket))
        } else {
            Err(StorageError::NoSuchBucket(bucket.into()))
        }
    }
}

impl Upload {
    /// Chunks as they came from the wire, in as few calls as the system takes.
    pub(crate) fn write(&mut self, chunks: &[impl AsRef<[u8]>]) -> io::Result<()> {
        for chunk in chunks {
            self.sha256.update(chunk);
            self.size_bytes += chunk.as_ref().len() as u64;
        }
        let slices = chunks.iter().map(|chunk| IoSlice::new(chunk.as_ref()));
        let mut slices: Vec<_> = slices.collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0); // past those that are empty
        while !left.is_empty() {
            match self.file.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

fn file_name(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

/// Makes names in a folder survive a power cut; `sync_all` of a file does that for its bytes only.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
