//! The way of an object's bytes from its file to the wire, one chunk in memory at a time.

use std::fs::File;
use std::io::{self, SeekFrom};
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use s3s::dto::StreamingBlob;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// A photo is one or a few of these; larger ones only cost memory.
const CHUNK_BYTES: u64 = 256 * 1024;

/// The bytes `part` of a file, read as the client takes them.
pub(crate) fn stream(file: File, part: Range<u64>) -> StreamingBlob {
    let state = (tokio::fs::File::from_std(file), part, false);
    StreamingBlob::wrap(stream::try_unfold(
        state,
        |(mut file, part, positioned)| async move {
            if part.is_empty() {
                return Ok(None);
            }
            if !positioned && part.start > 0 {
                file.seek(SeekFrom::Start(part.start)).await?;
            }
            let wanted = (part.end - part.start).min(CHUNK_BYTES);
            let mut chunk = BytesMut::with_capacity(wanted as usize);
            // Reads until the chunk is full: one trip to the disk's threads may bring less.
            let mut limited = (&mut file).take(wanted);
            while limited.read_buf(&mut chunk).await? > 0 {}
            if chunk.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file was cut short",
                ));
            }
            let rest = part.start + chunk.len() as u64..part.end;
            Ok::<_, io::Error>(Some((Bytes::from(chunk), (file, rest, true))))
        },
    ))
}
