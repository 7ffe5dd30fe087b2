//! Streams the bytes of an object from its file to the client, with one chunk in memory at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use s3s::dto::StreamingBlob;

/// Most photos fit into one chunk. Larger chunks would only need more memory.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// A range of a file. Its first chunk is already read, so most photos need only one call of `spawn_blocking`.
pub(crate) struct Download {
    file: File,
    first: Bytes,
    rest: Range<u64>,
}

impl Download {
    /// Reads the first chunk of `part`. Blocks.
    pub(crate) fn begin(file: File, part: Range<u64>) -> io::Result<Self> {
        let (file, first, rest) = read(file, part)?;
        Ok(Self { file, first, rest })
    }

    /// Reads further chunks when the client has taken the earlier ones.
    pub(crate) fn stream(self) -> StreamingBlob {
        let first = stream::iter([Ok(self.first)]);
        let rest = stream::try_unfold((self.file, self.rest), |(file, rest)| async move {
            if rest.is_empty() {
                return Ok(None);
            }
            let reading = tokio::task::spawn_blocking(move || read(file, rest));
            let (file, bytes, rest) = reading.await.map_err(io::Error::other)??;
            Ok::<_, io::Error>(Some((bytes, (file, rest))))
        });
        StreamingBlob::wrap(first.chain(rest))
    }
}

/// Reads one chunk of `part`; returns the chunk and the rest of `part`.
fn read(mut file: File, part: Range<u64>) -> io::Result<(File, Bytes, Range<u64>)> {
    let end = part.end.min(part.start + CHUNK_BYTES);
    let length = end - part.start;
    let mut bytes = Vec::with_capacity(length as usize);
    file.seek(SeekFrom::Start(part.start))?;
    (&file).take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        return Ok((file, bytes.into(), end..part.end));
    }
    let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short");
    Err(cut)
}
