//! Checksums of PNG chunks. `image` reads pixels before it has seen the checksum of the last chunk that they came from,
//! and then stops reading.

/// Checks that the critical chunks are whole, down to the last.
///
/// # Errors
/// In one sentence for the client.
pub(super) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    const CUT: &str = "the PNG is cut short";
    let mut rest = bytes.get(8..).ok_or(CUT)?;
    loop {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or(CUT)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (named, tail) = tail.split_at_checked(length.saturating_add(4)).ok_or(CUT)?;
        let (checksum, tail) = tail.split_first_chunk::<4>().ok_or(CUT)?;
        // An upper-case first letter: a decoder cannot do without it.
        let critical = named[0].is_ascii_uppercase();
        if critical && crc32fast::hash(named) != u32::from_be_bytes(*checksum) {
            return Err("a checksum of the PNG is wrong");
        }
        if named.starts_with(b"IEND") {
            return Ok(());
        }
        rest = tail;
    }
}
