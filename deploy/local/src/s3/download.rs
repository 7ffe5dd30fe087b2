//! The way of an object's bytes from its file to the wire, one chunk in memory at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream;
use s3s::dto::StreamingBlob;

/// A photo is one of these, read in one trip to the disk's threads; larger ones only cost memory.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// The bytes `part` of a file, read as the client takes them.
pub(crate) fn stream(file: File, part: Range<u64>) -> StreamingBlob {
    StreamingBlob::wrap(stream::try_unfold(
        (file, part),
        |(file, part)| async move {
            if part.is_empty() {
                return Ok(None);
            }
            let end = part.end.min(part.start + CHUNK_BYTES);
            let chunk = part.start..end;
            let reading = tokio::task::spawn_blocking(move || read(file, chunk));
            let (file, bytes) = reading.await.map_err(io::Error::other)??;
            Ok::<_, io::Error>(Some((bytes, (file, end..part.end))))
        },
    ))
}

fn read(mut file: File, part: Range<u64>) -> io::Result<(File, Bytes)> {
    let length = part.end - part.start;
    let mut bytes = Vec::with_capacity(length as usize);
    file.seek(SeekFrom::Start(part.start))?;
    (&file).take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        return Ok((file, bytes.into()));
    }
    let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short");
    Err(cut)
}
