//! The way of an upload's bytes from the wire to the storage, a few pieces in memory at a time.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use s3s::{S3Error, S3Result, StdError, TrailingHeaders, s3_error};
use tokio::sync::mpsc;

use super::checksums::Checksums;
use super::object_file::Description;
use super::storage::{NewObject, Storage, StorageError};

/// What goes to the disk's threads at once: a photo takes one trip there.
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces between the wire and the disk: enough that neither waits for the other's hiccups.
const PIECES_IN_FLIGHT: usize = 2;

/// What the client said of the body beforehand.
pub(crate) struct Announced {
    pub(crate) length: Option<u64>,
    pub(crate) checksums: Checksums,
    pub(crate) trailers: Option<TrailingHeaders>,
}

/// A part of the body, in the chunks that it came in. A channel that closes without a last one is a client that went away.
struct Piece {
    chunks: Vec<Bytes>,
    is_last: bool,
}

/// Receives, verifies and stores one object.
pub(crate) async fn receive(
    storage: Arc<Storage>,
    bucket: String,
    object: NewObject,
    mut body: BoxStream<'static, Result<Bytes, StdError>>,
    announced: Announced,
) -> S3Result<Description> {
    // A small object has arrived whole before it keeps a thread busy, which then waits for nothing.
    let first = next_piece(&mut body).await?;
    let mut was_last = first.is_last;
    let (to_disk, from_wire) = mpsc::channel(PIECES_IN_FLIGHT);
    drop(to_disk.try_send(first)); // there is room
    let writing =
        tokio::task::spawn_blocking(move || write(&storage, &bucket, object, from_wire, announced));
    while !was_last {
        let piece = next_piece(&mut body).await?;
        was_last = piece.is_last;
        // Without a reader the writer failed, and says why below.
        if to_disk.send(piece).await.is_err() {
            break;
        }
    }
    writing.await.map_err(S3Error::internal_error)?
}

async fn next_piece(body: &mut BoxStream<'static, Result<Bytes, StdError>>) -> S3Result<Piece> {
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    while bytes < PIECE_BYTES {
        let Some(chunk) = body.next().await else {
            let is_last = true;
            return Ok(Piece { chunks, is_last });
        };
        // A body that fails here is cut short, or not the one its signature was made for.
        let chunk = chunk.map_err(|cause| {
            tracing::warn!(%cause, "upload refused");
            S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, cause)
        })?;
        bytes += chunk.len();
        chunks.push(chunk);
    }
    let is_last = false;
    Ok(Piece { chunks, is_last })
}

fn write(
    storage: &Storage,
    bucket: &str,
    object: NewObject,
    mut from_wire: mpsc::Receiver<Piece>,
    mut announced: Announced,
) -> S3Result<Description> {
    storage.check_bucket(bucket)?;
    let mut upload = storage.begin().map_err(StorageError::from)?;
    loop {
        let Some(piece) = from_wire.blocking_recv() else {
            return Err(s3_error!(IncompleteBody, "the client went away"));
        };
        for chunk in &piece.chunks {
            announced.checksums.update(chunk);
        }
        upload.write(&piece.chunks).map_err(StorageError::from)?;
        if piece.is_last {
            break;
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
