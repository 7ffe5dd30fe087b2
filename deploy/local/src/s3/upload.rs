//! Streams the bytes of an upload from the client to the storage, with a few pieces in memory at a time.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use s3s::{S3Error, S3Result, StdError, TrailingHeaders, s3_error};
use tokio::sync::mpsc;

use super::checksums::Checksums;
use super::object_file::Description;
use super::storage::{NewObject, Storage, StorageError};

/// Size of the pieces that go to the writing thread. Most photos are one piece.
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces that wait between network and disk: enough that a short pause of one does not stop the other.
const PIECES_IN_FLIGHT: usize = 2;

/// Length and checksums of the body, as the request announced them.
pub(crate) struct AnnouncedBody {
    pub(crate) length: Option<u64>,
    pub(crate) checksums: Checksums,
    pub(crate) trailers: Option<TrailingHeaders>,
}

/// A part of the body, in the chunks that arrived. If the channel closes before the last piece, the client has disconnected.
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
    announced: AnnouncedBody,
) -> S3Result<Description> {
    // Reads the first piece before a thread is taken. So for a small object the thread never waits for the network.
    let first = next_piece(&mut body).await?;
    let mut was_last = first.is_last;
    let (to_writer, from_client) = mpsc::channel(PIECES_IN_FLIGHT);
    drop(to_writer.try_send(first)); // the channel is empty, so this cannot fail
    let writing = tokio::task::spawn_blocking(move || {
        write(&storage, &bucket, object, from_client, announced)
    });
    while !was_last {
        let piece = next_piece(&mut body).await?;
        was_last = piece.is_last;
        // The channel is closed if the writer has failed. Its error is returned below.
        if to_writer.send(piece).await.is_err() {
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
        // The body was cut short, or does not match its signature.
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
    mut from_client: mpsc::Receiver<Piece>,
    mut announced: AnnouncedBody,
) -> S3Result<Description> {
    storage.check_bucket(bucket)?;
    let mut upload = storage.begin().map_err(StorageError::from)?;
    loop {
        let Some(piece) = from_client.blocking_recv() else {
            return Err(s3_error!(IncompleteBody, "the client disconnected"));
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
    if !announced.checksums.match_body(trailers.as_ref()) {
        return Err(s3_error!(BadDigest, "a checksum does not match the body"));
    }
    Ok(storage.commit(upload, bucket, object)?)
}
