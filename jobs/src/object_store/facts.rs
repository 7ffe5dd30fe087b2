//! What is known of a large object without holding it in memory: its size, its digest, its two ends.

use std::io::{self, Read, Seek, SeekFrom};

use aws_sdk_s3::{operation::head_object::HeadObjectError, types::ChecksumMode};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::{ObjectStore, StoreError, get_error, unavailable};
use crate::Sha256Digest;

/// What the store says about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectFacts {
    pub bytes: u64,
    /// The digest that the store has checked when the object was put. Not every store keeps it.
    pub sha256: Option<Sha256Digest>,
}

impl ObjectStore {
    /// The size of an object, and its digest if the store knows it; `None` if there is no such object.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn facts<'a>(
        &'a self,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<ObjectFacts>, StoreError>> {
        Box::pin(async move {
            let head = self.client.head_object().bucket(&self.bucket).key(key);
            match head.checksum_mode(ChecksumMode::Enabled).send().await {
                Ok(head) => Ok(Some(ObjectFacts {
                    bytes: head.content_length().unwrap_or_default().max(0) as u64,
                    // The checksum of an object in parts is another one, with a number behind it: it is no base64.
                    sha256: head.checksum_sha256().and_then(|text| {
                        let digest = STANDARD.decode(text).ok()?;
                        digest.as_slice().try_into().ok()
                    }),
                })),
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(HeadObjectError::is_not_found) =>
                {
                    Ok(None)
                }
                Err(error) => Err(unavailable(&error)),
            }
        })
    }

    /// The SHA-256 of an object. Reads all of it, a chunk at a time.
    ///
    /// # Errors
    /// [`StoreError::Missing`] is permanent, [`StoreError::Unavailable`] is temporary.
    pub fn hash<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Sha256Digest, StoreError>> {
        Box::pin(async move {
            let get = self.client.get_object().bucket(&self.bucket).key(key);
            let got = get.send().await.map_err(|error| get_error(key, &error))?;
            let (mut body, mut hasher) = (got.body, Sha256::new());
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                hasher.update(&chunk);
            }
            Ok(Sha256Digest::finish(hasher))
        })
    }

    /// `length` bytes of an object from `first` on; `length` is at least 1.
    ///
    /// # Errors
    /// [`StoreError::Missing`] is permanent, [`StoreError::Unavailable`] is temporary.
    pub fn get_range<'a>(
        &'a self,
        key: &'a str,
        first: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            let get = self.client.get_object().bucket(&self.bucket).key(key);
            let range = format!("bytes={first}-{}", first + length - 1);
            let got = get.range(range).send().await;
            let got = got.map_err(|error| get_error(key, &error))?;
            let body = got.body.collect().await;
            let body = body.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            Ok(body.into_bytes())
        })
    }
}

/// The first and the last bytes of an object, as a file with a hole: a read in the hole fails.
#[derive(Debug)]
pub struct ObjectEnds {
    beginning: Bytes,
    end: Bytes,
    length: u64,
    position: u64,
}

impl ObjectEnds {
    /// `length` is that of the whole object. Together the two parts are no longer than that.
    pub fn new(beginning: Bytes, end: Bytes, length: u64) -> Self {
        Self {
            beginning,
            end,
            length,
            position: 0,
        }
    }

    /// The bytes that are known from the position on.
    fn known(&self) -> io::Result<&[u8]> {
        let (position, end_at) = (self.position, self.length - self.end.len() as u64);
        if position >= self.length {
            Ok(&[])
        } else if position >= end_at {
            Ok(&self.end[(position - end_at) as usize..])
        } else if position < self.beginning.len() as u64 {
            Ok(&self.beginning[position as usize..])
        } else {
            Err(io::Error::other(
                "only the two ends of the object were fetched",
            ))
        }
    }
}

impl Read for ObjectEnds {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut known = self.known()?;
        let read = known.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for ObjectEnds {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::ObjectEnds;

    fn ends() -> ObjectEnds {
        ObjectEnds::new("abcd".into(), "yz".into(), 26)
    }

    #[test]
    fn the_two_ends_of_an_object_read_like_the_file() {
        let mut file = ends();
        let mut four = [0; 4];
        file.read_exact(&mut four).expect("the beginning");
        assert_eq!(&four, b"abcd");
        assert_eq!(file.seek(SeekFrom::End(-2)).expect("within"), 24);
        let mut end = String::new();
        assert_eq!(file.read_to_string(&mut end).expect("the end"), 2);
        assert_eq!(end, "yz");
        assert_eq!(file.seek(SeekFrom::Current(-1)).expect("within"), 25);
        assert!(file.seek(SeekFrom::End(-27)).is_err());
        let mut whole = ObjectEnds::new("abc".into(), "".into(), 3);
        let mut text = String::new();
        whole.read_to_string(&mut text).expect("all is known");
        assert_eq!(text, "abc");
    }

    #[test]
    fn a_read_in_the_hole_fails_instead_of_making_up_bytes() {
        let mut file = ends();
        file.seek(SeekFrom::Start(4)).expect("within");
        assert!(file.read(&mut [0; 1]).is_err());
        file.rewind().expect("within");
        let mut text = String::new();
        assert!(file.read_to_string(&mut text).is_err());
    }
}
