use std::io::{self, Read, Seek};

use super::{
    ArtifactKind,
    archive::{Archive, ArchiveError},
    torch_archive,
    words::printable,
};

/// Compares each part of an archive with its checksum. Returns [`ArtifactKind::DamagedArchive`] if one differs, and `None` for
/// other files. Reads the whole file.
///
/// libtorch does not compare: a model whose bytes were changed loads, and answers wrongly.
///
/// # Errors
/// The file cannot be read.
pub fn find_damage(mut reader: impl Read + Seek, bytes: u64) -> io::Result<Option<ArtifactKind>> {
    let mut head = [0; 4];
    reader.rewind()?;
    if bytes < 4 || reader.read_exact(&mut head).is_err() || !torch_archive::is_archive(&head) {
        return Ok(None);
    }
    let damaged = Archive::open(reader, bytes).and_then(|mut archive| {
        let entry = archive.damaged_entry()?.map(|entry| printable(&entry.name));
        Ok(entry.map(|part| format!("the bytes of its part `{part}` do not fit their checksum")))
    });
    let why = match damaged {
        Ok(why) => why,
        Err(ArchiveError::CutOff(why) | ArchiveError::Damaged(why)) => Some(why),
        Err(ArchiveError::Io(error)) => return Err(error),
    };
    Ok(why.map(|why| ArtifactKind::DamagedArchive { why }))
}
