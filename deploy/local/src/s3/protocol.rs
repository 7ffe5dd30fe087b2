//! The S3 operations that Darkroom and its tests use.
//!
//! The crate `s3s` does signatures, XML and presigned URLs. There are no multipart uploads, versions
//! or access lists.

use std::fs::File;
use std::sync::Arc;

use futures_util::StreamExt as _;
use s3s::dto::{
    Bucket, CommonPrefix, CreateBucketInput, CreateBucketOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    ETagCondition, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Metadata, Object, PutObjectInput, PutObjectOutput, Timestamp,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::checksums::Checksums;
use super::download::Download;
use super::faults::Faults;
use super::listing::{self, Page};
use super::object_file::Description;
use super::quirks::{Kind, Quirks};
use super::storage::{NewObject, Storage, StorageError};
use super::upload;

/// The S3 protocol over one [`Storage`].
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    storage: Arc<Storage>,
    faults: Faults,
    quirks: Quirks,
}

impl Objects {
    pub(crate) fn new(storage: Storage, faults: Faults, quirks: Quirks) -> Self {
        Self {
            storage: Arc::new(storage),
            faults,
            quirks,
        }
    }

    /// Runs `step`, which waits for the disk, on a thread for blocking work.
    async fn blocking<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> S3Result<T> {
        let storage = Arc::clone(&self.storage);
        let done = tokio::task::spawn_blocking(move || step(&storage)).await;
        Ok(done.map_err(S3Error::internal_error)??)
    }

    async fn find(&self, bucket: String, key: String) -> S3Result<(Description, File)> {
        let found = self
            .blocking(move |storage| storage.open_object(&bucket, &key))
            .await?;
        found.ok_or_else(no_such_key)
    }
}

fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "no object of this key")
}

impl From<StorageError> for S3Error {
    fn from(error: StorageError) -> Self {
        match &error {
            StorageError::NoSuchBucket(bucket) => s3_error!(NoSuchBucket, "no bucket {bucket}"),
            StorageError::Exists => s3_error!(PreconditionFailed, "an object of this key exists"),
            StorageError::WrongChecksum => s3_error!(BadDigest, "the SHA-256 does not match"),
            StorageError::PastTheEnd => s3_error!(InvalidRange, "past the end"),
            StorageError::Io(cause) => {
                tracing::error!(%error, "storage");
                if cause.kind() == std::io::ErrorKind::StorageFull {
                    return s3_error!(InternalError, "the disk of the object store is full");
                }
                S3Error::internal_error(error)
            }
        }
    }
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.faults.inject().await?;
        self.quirks.check(Kind::Put)?;
        let mut input = req.input;
        if input.if_match.is_some() {
            return Err(s3_error!(NotImplemented, "If-Match on uploads"));
        }
        let only_if_absent = match input.if_none_match {
            None => false,
            Some(ETagCondition::Any) => true,
            Some(ETagCondition::ETag(_)) => {
                return Err(s3_error!(NotImplemented, "If-None-Match takes only *"));
            }
        };
        let announced = input.checksum_sha256.take();
        let announced = announced.map(|sum| base64_to_hex(&sum)).transpose()?;
        let object = NewObject {
            only_if_absent,
            sha256_expected: self.quirks.sha256_to_check(announced)?,
            key: input.key.clone(),
            content_type: input.content_type.clone(),
            metadata: input
                .metadata
                .take()
                .unwrap_or_default()
                .into_iter()
                .collect(),
        };
        // A body in signed chunks is longer than the object: each chunk carries its signature.
        let decoded = req.headers.get("x-amz-decoded-content-length");
        let length = match decoded.and_then(|length| length.to_str().ok()) {
            Some(decoded) => decoded.parse().ok(),
            None => input
                .content_length
                .and_then(|length| u64::try_from(length).ok()),
        };
        let checksums = Checksums::from_request(&mut input, &req.headers);
        let body = input
            .body
            .take()
            .unwrap_or_else(|| s3s::Body::empty().into());
        let storage = Arc::clone(&self.storage);
        let announced = upload::AnnouncedBody {
            length,
            checksums,
            trailers: req.trailing_headers,
        };
        let stored =
            upload::receive(storage, input.bucket, object, body.boxed(), announced).await?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(stored.sha256)),
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let body_fault = self.faults.inject().await?;
        self.quirks.check(Kind::Get)?;
        let GetObjectInput {
            bucket,
            key,
            range,
            response_content_disposition,
            ..
        } = req.input;
        let is_part = range.is_some();
        let download = self
            .blocking(move |storage| {
                let Some((object, file)) = storage.open_object(&bucket, &key)? else {
                    return Ok(None);
                };
                let size = object.size_bytes;
                let part = match range {
                    None => 0..size,
                    Some(range) => range.check(size).map_err(|_| StorageError::PastTheEnd)?,
                };
                let download = Download::begin(file, part.clone())?;
                Ok(Some((object, part, download)))
            })
            .await?;
        let (object, part, download) = download.ok_or_else(no_such_key)?;
        let content_range = is_part.then(|| {
            let size = object.size_bytes;
            format!("bytes {}-{}/{size}", part.start, part.end - 1)
        });
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: i64::try_from(part.end - part.start).ok(),
            content_range,
            content_disposition: response_content_disposition,
            content_type: object.content_type.clone(),
            e_tag: Some(ETag::Strong(object.sha256.clone())),
            last_modified: Some(written_at(&object)),
            metadata: Some(metadata(&object)),
            body: Some(body_fault.apply(download.stream())),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let (object, _) = self.find(req.input.bucket, req.input.key).await?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: i64::try_from(object.size_bytes).ok(),
            content_type: object.content_type.clone(),
            e_tag: Some(ETag::Strong(object.sha256.clone())),
            last_modified: Some(written_at(&object)),
            metadata: Some(metadata(&object)),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.quirks.check(Kind::Delete)?;
        let DeleteObjectInput { bucket, key, .. } = req.input;
        self.blocking(move |storage| storage.delete(&bucket, &key))
            .await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = req.input;
        let quiet = delete.quiet == Some(true);
        let deleted = self
            .blocking(move |storage| {
                let mut deleted = Vec::with_capacity(delete.objects.len());
                for object in delete.objects {
                    storage.delete(&bucket, &object.key)?;
                    deleted.push(DeletedObject {
                        key: Some(object.key),
                        ..Default::default()
                    });
                }
                Ok(deleted)
            })
            .await?;
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            ..DeleteObjectsOutput::default()
        }))
    }

    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = req.input.bucket;
        let location = format!("/{bucket}");
        // A bucket that exists already is no error, as in the oldest region of S3.
        self.blocking(move |storage| storage.create_bucket(&bucket))
            .await?;
        Ok(S3Response::new(CreateBucketOutput {
            location: Some(location),
        }))
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.quirks.check(Kind::List)?;
        self.blocking(move |storage| storage.check_bucket(&req.input.bucket))
            .await?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn list_buckets(
        &self,
        _req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let names = self.blocking(|storage| Ok(storage.buckets()?)).await?;
        let bucket = |name| Bucket {
            name: Some(name),
            ..Bucket::default()
        };
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(names.into_iter().map(bucket).collect()),
            ..ListBucketsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.quirks.check(Kind::List)?;
        let input = req.input;
        let (bucket, prefix) = (
            input.bucket.clone(),
            input.prefix.clone().unwrap_or_default(),
        );
        let all = self
            .blocking(move |storage| storage.list(&bucket, &prefix))
            .await?;
        let limit = usize::try_from(input.max_keys.unwrap_or(1000))
            .unwrap_or(0)
            .min(1000);
        let after = input
            .continuation_token
            .as_deref()
            .or(input.start_after.as_deref());
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let Page {
            objects,
            prefixes,
            next,
        } = listing::page(all, prefix, input.delimiter.as_deref(), after, limit);
        let count = objects.len() + prefixes.len();
        let entry = |object: Description| Object {
            e_tag: Some(ETag::Strong(object.sha256.clone())),
            last_modified: Some(written_at(&object)),
            size: i64::try_from(object.size_bytes).ok(),
            key: Some(object.key),
            ..Object::default()
        };
        let common_prefix = |prefix| CommonPrefix {
            prefix: Some(prefix),
        };
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            max_keys: i32::try_from(limit).ok(),
            key_count: i32::try_from(count).ok(),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents: Some(objects.into_iter().map(entry).collect()),
            common_prefixes: Some(prefixes.into_iter().map(common_prefix).collect()),
            ..ListObjectsV2Output::default()
        }))
    }
}

fn written_at(object: &Description) -> Timestamp {
    let since_1970 = std::time::Duration::from_micros(object.written_at_us.unsigned_abs());
    Timestamp::from(std::time::SystemTime::UNIX_EPOCH + since_1970)
}

fn metadata(object: &Description) -> Metadata {
    object
        .metadata
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Converts a digest from base64, as in S3, to hex, as in the storage.
fn base64_to_hex(base64_digest: &str) -> S3Result<String> {
    use base64::Engine as _;
    let digest = base64::engine::general_purpose::STANDARD.decode(base64_digest);
    Ok(hex::encode(digest.map_err(|_| {
        s3_error!(InvalidDigest, "a digest is base64")
    })?))
}
