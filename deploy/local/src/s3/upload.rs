//! The way of an upload's bytes from the wire to the storage, a few chunks in memory at a time.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use s3s::{S3Error, S3Result, StdError, TrailingHeaders, s3_error};
use tokio::sync::mpsc;

use super::checksums::Checksums;
use super::object_file::Description;
use super::storage::{NewObject, Storage};

/// Chunks between the wire and the disk: enough that neither waits for the other's hiccups.
const CHUNKS_IN_FLIGHT: usize = 8;

/// What the client said of the body beforehand.
pub(crate) struct Announced {
    pub(crate) length: Option<u64>,
    pub(crate) checksums: Checksums,
    pub(crate) trailers: Option<TrailingHeaders>,
}

/// One step of the body. A channel that closes without an `End` is a client that went away.
enum Step {
    Chunk(Bytes),
    End,
}

/// Receives, verifies and stores one object.
pub(crate) async fn receive(
    storage: Arc<Storage>,
    bucket: String,
    object: NewObject,
    mut body: BoxStream<'static, Result<Bytes, StdError>>,
    announced: Announced,
) -> S3Result<Description> {
    let (to_disk, from_wire) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let writing =
        tokio::task::spawn_blocking(move || write(&storage, &bucket, object, from_wire, announced));
    while let Some(chunk) = body.next().await {
        // A body that fails here is cut short, or not the one its signature was made for.
        let chunk = chunk.map_err(|cause| {
            tracing::warn!(%cause, "upload refused");
            S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, cause)
        })?;
        if to_disk.send(Step::Chunk(chunk)).await.is_err() {
            break; // the writer failed and says why below
        }
    }
    let _ = to_disk.send(Step::End).await;
    writing.await.map_err(S3Error::internal_error)?
}

fn write(
    storage: &Storage,
    bucket: &str,
    object: NewObject,
    mut from_wire: mpsc::Receiver<Step>,
    mut announced: Announced,
) -> S3Result<Description> {
    storage.check_bucket(bucket)?;
    let mut upload = storage.begin().map_err(S3Error::internal_error)?;
    loop {
        match from_wire.blocking_recv() {
            Some(Step::Chunk(chunk)) => {
                announced.checksums.update(&chunk);
                upload.write(&chunk).map_err(S3Error::internal_error)?;
            }
            Some(Step::End) => break,
            None => return Err(s3_error!(IncompleteBody, "the client went away")),
        }
    }
    if announced
        .length
        .is_some_and(|length| length != upload.size_bytes())
    {
        return Err(s3_error!(
            IncompleteBody,
            "the body is not as long as announced"
        ));
    }
    let trailers = announced.trailers.and_then(|trailers| trailers.take());
    if !announced.checksums.agree(trailers.as_ref()) {
        return Err(s3_error!(BadDigest, "a checksum does not match the body"));
    }
    Ok(storage.commit(upload, bucket, object)?)
}
