//! The file format of an object: first its bytes, then their description.
//!
//! Both are in one file, because one rename cannot replace two files. The description comes last,
//! because size and digest are known only after the last byte.
//!
//! ```text
//! body … | description (JSON) | length of the description: u32, little endian | "darkroom"
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"darkroom";
const TRAILER_BYTES: u64 = 4 + 8;

/// Key, size, digest and metadata of a stored object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) key: String,
    pub(crate) size_bytes: u64,
    /// Lower-case hex; also the object's `ETag`.
    pub(crate) sha256: String,
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Microseconds since 1970.
    pub(crate) written_at_us: i64,
}

/// Appends the description. The cursor of the file must be at the end of the body.
pub(crate) fn finish(file: &mut File, description: &Description) -> io::Result<()> {
    let mut tail = serde_json::to_vec(description)?;
    let length = u32::try_from(tail.len()).map_err(io::Error::other)?;
    tail.extend_from_slice(&length.to_le_bytes());
    tail.extend_from_slice(MAGIC);
    file.write_all(&tail)
}

/// Reads the description. Does not move the cursor of the file.
pub(crate) fn describe(file: &File) -> io::Result<Description> {
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "not an object file, or cut short",
        )
    };
    let file_bytes = file.metadata()?.len();
    let trailer_at = file_bytes.checked_sub(TRAILER_BYTES).ok_or_else(damaged)?;
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut trailer, trailer_at)?;
    let (length, magic) = trailer.split_at(4);
    if magic != MAGIC {
        return Err(damaged());
    }
    let length = u32::from_le_bytes(length.try_into().map_err(io::Error::other)?);
    let description_at = trailer_at.checked_sub(length.into()).ok_or_else(damaged)?;
    let mut description = vec![0; length as usize];
    file.read_exact_at(&mut description, description_at)?;
    let description: Description = serde_json::from_slice(&description)?;
    if description.size_bytes != description_at {
        return Err(damaged());
    }
    Ok(description)
}
