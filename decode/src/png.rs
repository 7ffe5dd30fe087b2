//! Checksums of PNG chunks. The crate `image` stops after the last pixel, before the checksum of the last chunk.

/// Checks that all critical chunks are complete.
///
/// # Errors
/// One sentence for the client.
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    const CUT: &str = "the PNG is cut short";
    let mut rest = bytes.get(8..).ok_or(CUT)?;
    loop {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or(CUT)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (named, tail) = tail.split_at_checked(length.saturating_add(4)).ok_or(CUT)?;
        let (checksum, tail) = tail.split_first_chunk::<4>().ok_or(CUT)?;
        // An upper-case first letter means critical: a decoder needs the chunk.
        let is_critical = named[0].is_ascii_uppercase();
        if is_critical && crc32fast::hash(named) != u32::from_be_bytes(*checksum) {
            return Err("a checksum of the PNG is wrong");
        }
        if named.starts_with(b"IEND") {
            return Ok(());
        }
        rest = tail;
    }
}
