//! The way of an object's bytes from its file to the wire, one chunk in memory at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use s3s::dto::StreamingBlob;

/// A photo is one of these; larger ones only cost memory.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// A part of a file on its way, whose first chunk is read: a photo takes one trip to the disk's threads.
pub(crate) struct Download {
    file: File,
    first: Bytes,
    rest: Range<u64>,
}

impl Download {
    pub(crate) fn begin(file: File, part: Range<u64>) -> io::Result<Self> {
        let (file, first, rest) = read(file, part)?;
        Ok(Self { file, first, rest })
    }

    /// The bytes, read as the client takes them.
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

/// One chunk of it; answers what is left.
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
