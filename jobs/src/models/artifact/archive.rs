//! The table of contents of a zip archive, and its entries, read with limits.
//!
//! Read by hand, not by the crate `zip`: a caller must learn whether a file was cut off or is something else, and an
//! archive must not decide how much memory is taken. Models need two methods only: stored and deflated.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::DeflateDecoder;

use super::words::printable;

/// Largest table of contents. That of a model with 10,000 tensors has about 1 MB.
const DIRECTORY_BYTES_MAX: u64 = 8 << 20;
/// Most bytes that all deflated entries of one archive may have for [`Archive::damaged_entry`] to unpack them.
const INFLATED_BYTES_MAX: u64 = 256 << 20;
/// Longer lines are read in pieces of this length.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Fixed part of the record at the end of an archive, and the longest comment behind it.
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = u16::MAX as usize;
/// What stands in front of this record if the archive is larger than 4 GiB.
const LOCATOR_BYTES: usize = 20;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Why an archive cannot be read.
#[derive(Debug)]
pub(super) enum ArchiveError {
    Io(io::Error),
    /// Bytes at the end are missing; says which.
    CutOff(String),
    /// No program would read it; says why.
    Damaged(String),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::CutOff("it ends in the middle of a part".into()),
            _ => Self::Io(error),
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Length of the content, as the archive claims.
    pub bytes: u64,
    method: u16,
    crc32: u32,
    packed_bytes: u64,
    header_at: u64,
}

#[derive(Debug)]
pub(super) struct Archive<R> {
    reader: R,
    pub entries: Vec<Entry>,
}

/// Where the table of contents lies.
struct Directory {
    at: u64,
    bytes: u64,
    entries: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the table of contents of a file of `file_bytes` bytes.
    pub(super) fn open(mut reader: R, file_bytes: u64) -> Result<Self, ArchiveError> {
        let directory = find_directory(&mut reader, file_bytes)?;
        if directory.bytes > DIRECTORY_BYTES_MAX {
            let why = format!("its table of contents has more than {DIRECTORY_BYTES_MAX} bytes");
            return Err(ArchiveError::Damaged(why));
        }
        reader.seek(SeekFrom::Start(directory.at))?;
        let mut table = BufReader::new((&mut reader).take(directory.bytes));
        let mut entries = Vec::new();
        let mut packed_bytes = 0_u64;
        for _ in 0..directory.entries {
            let entry = read_entry(&mut table).map_err(|error| match error {
                ArchiveError::CutOff(_) => damaged("its table of contents ends too early"),
                other => other,
            })?;
            let ends_inside = entry
                .header_at
                .checked_add(entry.packed_bytes)
                .is_some_and(|end| end <= directory.at);
            if !ends_inside {
                let part = format!("its part `{}` lies past its end", printable(&entry.name));
                return Err(ArchiveError::CutOff(part));
            }
            packed_bytes = packed_bytes.saturating_add(entry.packed_bytes);
            entries.push(entry);
        }
        if packed_bytes > file_bytes {
            return Err(damaged("its parts overlap"));
        }
        Ok(Self { reader, entries })
    }

    /// Whether the name of an entry is what is looked for.
    pub(super) fn has(&self, is_it: impl Fn(&str) -> bool) -> bool {
        self.entries.iter().any(|entry| is_it(&entry.name))
    }

    /// Up to `bytes_max` bytes of the content of an entry.
    pub(super) fn head(&mut self, index: usize, bytes_max: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut content = Vec::new();
        let mut reader = self.content(index)?.take(bytes_max);
        // What can be unpacked of a damaged entry is enough for a look at the entry.
        let _ = reader.read_to_end(&mut content);
        Ok(content)
    }

    /// Calls `on_line` with each line of the first `bytes_max` bytes of an entry. Returns the number of bytes. `None`: not all
    /// of these bytes can be read.
    pub(super) fn each_line(
        &mut self,
        index: usize,
        bytes_max: u64,
        mut on_line: impl FnMut(&str),
    ) -> Result<Option<u64>, ArchiveError> {
        let mut content = match self.content(index) {
            Ok(content) => BufReader::new(content.take(bytes_max)),
            // A reader may know only the two ends of a file.
            Err(ArchiveError::Io(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut line, mut bytes) = (Vec::new(), 0);
        loop {
            line.clear();
            let piece = content
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line);
            match piece {
                Ok(0) => return Ok(Some(bytes)),
                Ok(read) => bytes += read as u64,
                Err(_) => return Ok(None),
            }
            on_line(&String::from_utf8_lossy(&line));
        }
    }

    /// The first entry whose content does not fit its checksum. Reads everything. Deflated entries of more than 256 MiB
    /// together are not unpacked.
    pub(super) fn damaged_entry(&mut self) -> Result<Option<&Entry>, ArchiveError> {
        let mut inflated_bytes = 0_u64;
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let (bytes, crc32) = (entry.bytes, entry.crc32);
            if entry.method == DEFLATED {
                inflated_bytes = inflated_bytes.saturating_add(bytes);
                if inflated_bytes > INFLATED_BYTES_MAX {
                    continue;
                }
            }
            if self.checksum(index, bytes)? != Some((bytes, crc32)) {
                return Ok(Some(&self.entries[index]));
            }
        }
        Ok(None)
    }

    /// Length and checksum of the content, which is read up to one byte more than `bytes`. `None`: it cannot be unpacked.
    fn checksum(&mut self, index: usize, bytes: u64) -> Result<Option<(u64, u32)>, ArchiveError> {
        let mut content = match self.content(index) {
            Ok(content) => content.take(bytes.saturating_add(1)),
            Err(ArchiveError::Damaged(_) | ArchiveError::CutOff(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut hasher, mut length) = (crc32fast::Hasher::new(), 0);
        let mut buffer = vec![0; 64 << 10];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(Some((length, hasher.finalize()))),
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    length += read as u64;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // What the decoder says of bytes that were never deflated.
                    io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof => return Ok(None),
                    _ => return Err(error.into()),
                },
            }
        }
    }

    /// The unpacked content of an entry.
    fn content(&mut self, index: usize) -> Result<Content<&mut R>, ArchiveError> {
        let entry = &self.entries[index];
        self.reader.seek(SeekFrom::Start(entry.header_at))?;
        let mut header = [0; 30];
        self.reader.read_exact(&mut header)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(ArchiveError::Damaged(format!(
                "its part `{}` is not where the table of contents says",
                printable(&entry.name)
            )));
        }
        // The name and the extra field have lengths of their own here.
        let skipped = i64::from(u16_at(&header, 26)) + i64::from(u16_at(&header, 28));
        self.reader.seek(SeekFrom::Current(skipped))?;
        let packed = (&mut self.reader).take(entry.packed_bytes);
        match entry.method {
            STORED => Ok(Content::Stored(packed)),
            DEFLATED => Ok(Content::Deflated(DeflateDecoder::new(BufReader::new(
                packed,
            )))),
            method => Err(ArchiveError::Damaged(format!(
                "its part `{}` is packed with method {method}, which torch cannot read",
                printable(&entry.name)
            ))),
        }
    }
}

enum Content<R> {
    Stored(io::Take<R>),
    Deflated(DeflateDecoder<BufReader<io::Take<R>>>),
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(reader) => reader.read(into),
            Self::Deflated(reader) => reader.read(into),
        }
    }
}

fn damaged(why: &str) -> ArchiveError {
    ArchiveError::Damaged(why.to_owned())
}

/// Finds the record at the end of an archive, which says where the table of contents lies.
fn find_directory(
    reader: &mut (impl Read + Seek),
    file_bytes: u64,
) -> Result<Directory, ArchiveError> {
    let tail_bytes = file_bytes.min((END_BYTES + COMMENT_BYTES_MAX + LOCATOR_BYTES) as u64);
    let tail_at = file_bytes - tail_bytes;
    reader.seek(SeekFrom::Start(tail_at))?;
    let mut tail = Vec::new();
    reader.by_ref().take(tail_bytes).read_to_end(&mut tail)?;
    let found = tail
        .windows(END_BYTES)
        .rposition(|end| end.starts_with(b"PK\x05\x06"));
    let Some(at) = found else {
        let why = "its table of contents, which stands at the end, is missing";
        return Err(ArchiveError::CutOff(why.into()));
    };
    let end = &tail[at..];
    let mut directory = Directory {
        at: u32_at(end, 16).into(),
        bytes: u32_at(end, 12).into(),
        entries: u16_at(end, 10).into(),
    };
    let mut end_at = tail_at + at as u64;
    // An archive of more than 4 GiB or 65,535 entries has its real numbers in another record.
    let locator = at.checked_sub(LOCATOR_BYTES).map(|at| &tail[at..]);
    if let Some(locator) = locator.filter(|locator| locator.starts_with(b"PK\x06\x07")) {
        end_at = u64_at(locator, 8);
        let mut end = [0; 56];
        reader.seek(SeekFrom::Start(end_at.min(file_bytes)))?;
        reader.read_exact(&mut end)?;
        if !end.starts_with(b"PK\x06\x06") {
            let why = "its table of contents is not where its end says";
            return Err(ArchiveError::CutOff(why.into()));
        }
        directory = Directory {
            at: u64_at(&end, 48),
            bytes: u64_at(&end, 40),
            entries: u64_at(&end, 32),
        };
    }
    match directory.at.checked_add(directory.bytes) {
        Some(directory_end) if directory_end <= end_at => Ok(directory),
        _ => Err(ArchiveError::CutOff(
            "its table of contents lies past its end".into(),
        )),
    }
}

fn read_entry(table: &mut impl Read) -> Result<Entry, ArchiveError> {
    let mut fixed = [0; 46];
    table.read_exact(&mut fixed)?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return Err(damaged("its table of contents is wrong"));
    }
    let mut read = |at| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; u16_at(&fixed, at).into()];
        table.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let (name, extra, _comment) = (read(28)?, read(30)?, read(32)?);
    let mut entry = Entry {
        name: String::from_utf8_lossy(&name).into_owned(),
        method: u16_at(&fixed, 10),
        crc32: u32_at(&fixed, 16),
        packed_bytes: u32_at(&fixed, 20).into(),
        bytes: u32_at(&fixed, 24).into(),
        header_at: u32_at(&fixed, 42).into(),
    };
    // Numbers that do not fit 32 bits stand in an extra field, in this order.
    let mut large = zip64_numbers(&extra);
    for number in [
        &mut entry.bytes,
        &mut entry.packed_bytes,
        &mut entry.header_at,
    ] {
        if *number == u64::from(u32::MAX)
            && let Some((bytes, rest)) = large.split_first_chunk::<8>()
        {
            *number = u64::from_le_bytes(*bytes);
            large = rest;
        }
    }
    Ok(entry)
}

/// The content of the extra field with the id 1; empty if there is none.
fn zip64_numbers(mut extra: &[u8]) -> &[u8] {
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let (content, rest) = rest.split_at(usize::from(u16_at(head, 2)).min(rest.len()));
        if u16_at(head, 0) == 1 {
            return content;
        }
        extra = rest;
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
