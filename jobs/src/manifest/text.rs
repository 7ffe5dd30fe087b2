//! The text of a file that a person wrote.

/// The text of `bytes`, without the byte order mark that some editors put before UTF-8.
///
/// # Errors
/// What the encoding is instead of UTF-8, in words.
pub(super) fn text(bytes: &[u8]) -> Result<&str, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("is UTF-16: save it as UTF-8".into());
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()]
            .split(|byte| *byte == b'\n')
            .count();
        format!("line {line} is not UTF-8: save the file as UTF-8")
    })
}
