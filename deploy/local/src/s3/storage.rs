//! Stores objects in a folder. An upload becomes visible when it is complete, verified and on disk.
//!
//! Knows neither HTTP nor S3. The name of a file is the hash of the key, so no key (`..`, for
//! example) can name a file outside its bucket.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::folder_sync::FolderSync;
use super::object_file::{self, Description};

/// A folder of buckets, and a folder for unfinished uploads on the same file system.
#[derive(Debug)]
pub(crate) struct Storage {
    buckets: PathBuf,
    uploads: PathBuf,
    /// One entry for the folder of each bucket that was written to.
    folder_syncs: Mutex<HashMap<PathBuf, Arc<FolderSync>>>,
}

/// An unfinished upload. Dropping it without [`Storage::commit`] deletes its file.
pub(crate) struct Upload {
    file: File,
    path: TempPath,
    sha256: Sha256,
    size_bytes: u64,
}

/// The description of an object that a client sends with the upload.
#[derive(Debug, Default)]
pub(crate) struct NewObject {
    pub(crate) key: String,
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Do not replace an object of this key (`If-None-Match: *`).
    pub(crate) only_if_absent: bool,
    /// Lower-case hex. The upload is refused if its bytes have another SHA-256.
    pub(crate) sha256_expected: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("no bucket {0}")]
    NoSuchBucket(String),
    #[error("an object of this key exists")]
    Exists,
    #[error("the SHA-256 of the bytes differs from the one in the request")]
    WrongChecksum,
    #[error("the range starts after the end of the object")]
    PastTheEnd,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Storage {
    /// Opens folder `root` or creates it. Deletes unfinished uploads of an earlier process.
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
        match fs::create_dir(self.bucket_path(bucket)?) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        Ok(sync_folder(&self.buckets)?)
    }

    /// The folder of a bucket, or [`StorageError::NoSuchBucket`].
    fn bucket_folder(&self, bucket: &str) -> Result<PathBuf, StorageError> {
        let folder = self.bucket_path(bucket)?;
        if folder.is_dir() {
            Ok(folder)
        } else {
            Err(StorageError::NoSuchBucket(bucket.into()))
        }
    }

    pub(crate) fn check_bucket(&self, bucket: &str) -> Result<(), StorageError> {
        self.bucket_folder(bucket).map(drop)
    }

    /// The names of all buckets, sorted.
    pub(crate) fn buckets(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.buckets)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Starts an upload.
    pub(crate) fn begin(&self) -> io::Result<Upload> {
        let (file, path) = tempfile::NamedTempFile::new_in(&self.uploads)?.into_parts();
        Ok(Upload {
            file,
            path,
            sha256: Sha256::new(),
            size_bytes: 0,
        })
    }

    /// Verifies an upload and makes it visible. When this returns, the object survives a power cut.
    pub(crate) fn commit(
        &self,
        mut upload: Upload,
        bucket: &str,
        object: NewObject,
    ) -> Result<Description, StorageError> {
        let folder = self.bucket_folder(bucket)?;
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

    /// The object and its file. The cursor of the file is at the first byte of the body.
    pub(crate) fn open_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<(Description, File)>, StorageError> {
        match File::open(self.bucket_folder(bucket)?.join(file_name(key))) {
            Ok(file) => Ok(Some((object_file::describe(&file)?, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an object. As in S3, a missing object is no error.
    pub(crate) fn delete(&self, bucket: &str, key: &str) -> Result<(), StorageError> {
        let folder = self.bucket_folder(bucket)?;
        match fs::remove_file(folder.join(file_name(key))) {
            Ok(()) => Ok(self.sync(folder)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// All objects whose key starts with `prefix`, sorted by key. Opens every file, so large buckets are slow.
    pub(crate) fn list(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<Vec<Description>, StorageError> {
        let mut objects = Vec::new();
        for entry in fs::read_dir(self.bucket_folder(bucket)?)? {
            let file = match File::open(entry?.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // deleted since `read_dir`
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

    /// Flushes the file names of a bucket to disk. Concurrent callers share one flush.
    fn sync(&self, folder: PathBuf) -> io::Result<()> {
        let mut all = self.folder_syncs.lock().expect("no holder panics");
        let sync = all
            .entry(folder)
            .or_insert_with_key(|folder| Arc::new(FolderSync::new(folder.clone())))
            .clone();
        drop(all);
        sync.flush()
    }

    /// The path of a bucket that need not exist. A name with other characters than S3 allows gives no path.
    fn bucket_path(&self, bucket: &str) -> Result<PathBuf, StorageError> {
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
    /// Appends the chunks, with as few system calls as possible.
    pub(crate) fn write(&mut self, chunks: &[impl AsRef<[u8]>]) -> io::Result<()> {
        for chunk in chunks {
            self.sha256.update(chunk);
            self.size_bytes += chunk.as_ref().len() as u64;
        }
        let slices = chunks.iter().map(|chunk| IoSlice::new(chunk.as_ref()));
        let mut slices: Vec<_> = slices.collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0); // skips empty chunks at the start
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

/// Flushes the file names of a folder to disk: `sync_all` of a file flushes only its bytes.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
