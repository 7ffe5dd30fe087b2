//! Parameters of the headers `Content-Type` and `Content-Disposition`, as programs write them.

use base64::{Engine, engine::general_purpose::STANDARD};
use encoding_rs::{Encoding, WINDOWS_1252};
use percent_encoding::percent_decode_str;

/// The value of the first parameter with this name, without quotes and escapes.
pub(super) fn parameter(header: &[u8], wanted: &str) -> Option<Vec<u8>> {
    // Before the first semicolon stands the value of the header itself.
    let mut rest = after(header, b";")?;
    loop {
        let separator = rest.iter().position(|byte| b"=;".contains(byte))?;
        let (name, value) = (rest[..separator].trim_ascii(), &rest[separator + 1..]);
        if rest[separator] == b';' {
            rest = value;
            continue;
        }
        let value = value.trim_ascii_start();
        let (value, after_value) = if let Some(quoted) = value.strip_prefix(b"\"") {
            let end = closing_quote(quoted);
            (unescape(&quoted[..end]), &quoted[end..])
        } else {
            let end = value.iter().position(|byte| *byte == b';');
            let end = end.unwrap_or(value.len());
            (value[..end].trim_ascii().to_vec(), &value[end..])
        };
        if name.eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(value);
        }
        rest = after(after_value, b";")?;
    }
}

/// What follows the first of these bytes.
fn after<'a>(text: &'a [u8], separators: &[u8]) -> Option<&'a [u8]> {
    let at = text.iter().position(|byte| separators.contains(byte))?;
    Some(&text[at + 1..])
}

/// Where a quoted text ends: at the next quote without a backslash before it.
fn closing_quote(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b'"', _) => return at,
            (b'\\', Some(b'"' | b'\\')) => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Removes escapes.
///
/// A backslash before any other character is none: the program sent a path of Windows as it is, and then double backslashes are
/// part of the path, too.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut is_path = false;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let is_pair = matches!(text.get(at + 1), Some(b'"' | b'\\'));
        is_path |= *byte == b'\\' && !is_pair;
        at += if *byte == b'\\' && is_pair { 2 } else { 1 };
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let next = bytes.peek().copied();
        if byte == b'\\' && (next == Some(b'"') || (next == Some(b'\\') && !is_path)) {
            plain.extend(bytes.next());
        } else {
            plain.push(byte);
        }
    }
    plain
}

/// The file name of a part: `filename*` before `filename`.
pub(super) fn file_name(disposition: &[u8]) -> Option<String> {
    let extended = parameter(disposition, "filename*");
    let extended = extended.and_then(|value| decode_extended(&value));
    extended.or_else(|| {
        let text = decode_text(&parameter(disposition, "filename")?);
        Some(decode_words(&text).unwrap_or(text))
    })
}

/// Text in UTF-8, or in the encoding that browsers and Java call latin-1.
pub(super) fn decode_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0.into(),
    }
}

/// `utf-8''na%C3%AFve.jpg` (RFC 8187), as .NET sends it.
fn decode_extended(value: &[u8]) -> Option<String> {
    let mut parts = std::str::from_utf8(value).ok()?.splitn(3, '\'');
    let (charset, _language, text) = (parts.next()?, parts.next()?, parts.next()?);
    decode(charset, &percent_decode_str(text).collect::<Vec<_>>())
}

/// `=?utf-8?B?bmHDr3ZlLmpwZw==?=` (RFC 2047), as .NET and `JavaMail` send it. `None` for any other text.
fn decode_words(text: &str) -> Option<String> {
    let words = text.split_ascii_whitespace().map(|word| {
        let word = word.strip_prefix("=?")?.strip_suffix("?=")?;
        let (charset, word) = word.split_once('?')?;
        let (coding, word) = word.split_once('?')?;
        let bytes = match coding {
            "B" | "b" => STANDARD.decode(word).ok()?,
            "Q" | "q" => {
                let word = word.replace('%', "%25").replace('_', " ").replace('=', "%");
                percent_decode_str(&word).collect()
            }
            _ => return None,
        };
        decode(charset, &bytes)
    });
    let text = words.collect::<Option<String>>()?;
    (!text.is_empty()).then_some(text)
}

fn decode(charset: &str, bytes: &[u8]) -> Option<String> {
    let encoding = Encoding::for_label_no_replacement(charset.as_bytes())?;
    Some(encoding.decode_without_bom_handling(bytes).0.into())
}

#[cfg(test)]
mod tests {
    use super::{file_name, parameter};

    #[test]
    fn a_boundary_is_found_however_it_is_written() {
        for (header, boundary) in [
            ("multipart/form-data; boundary=abc", "abc"),
            ("multipart/form-data;boundary=\"abc\"", "abc"),
            (
                "multipart/form-data; boundary=----=_Part_0_17.42",
                "----=_Part_0_17.42",
            ),
            (
                "multipart/form-data; charset=UTF-8; Boundary=a/b:c ",
                "a/b:c",
            ),
            (
                "multipart/form-data; x=\"; boundary=no\"; boundary=\"a;b\"; y",
                "a;b",
            ),
            (
                "multipart/form-data; \tboundary = \"a'()+_,-./:=? b\"",
                "a'()+_,-./:=? b",
            ),
        ] {
            let found = parameter(header.as_bytes(), "boundary");
            assert_eq!(found.as_deref(), Some(boundary.as_bytes()), "{header}");
        }
        for header in [
            "",
            "multipart/form-data",
            "multipart/form-data; boundary",
            "a;;b=c;",
        ] {
            assert_eq!(parameter(header.as_bytes(), "boundary"), None, "{header}");
        }
    }

    #[test]
    fn a_file_name_stays_as_its_sender_meant_it() {
        for (parameters, name) in [
            // curl, browsers
            ("filename=\"cat.jpg\"", "cat.jpg"),
            ("filename=\"a \\\"b\\\" \\\\ c.jpg\"", "a \"b\" \\ c.jpg"),
            ("filename=\"a;b=c.jpg\"; x=y", "a;b=c.jpg"),
            (
                "filename=\"shoot 7/\u{fc}ber.jpg\"",
                "shoot 7/\u{fc}ber.jpg",
            ),
            ("filename=\"100%25.jpg\"", "100%25.jpg"),
            // Windows
            (
                "filename=\"C:\\photos\\new\\cat.jpg\"",
                "C:\\photos\\new\\cat.jpg",
            ),
            (
                "filename=\"\\\\server\\share\\cat.jpg\"",
                "\\\\server\\share\\cat.jpg",
            ),
            ("filename=C:\\photos\\cat.jpg", "C:\\photos\\cat.jpg"),
            // .NET
            ("filename=cat.jpg; filename*=utf-8''cat.jpg", "cat.jpg"),
            (
                "filename=\"=?utf-8?B?bmHDr3ZlLmpwZw==?=\"; filename*=utf-8''na%C3%AFve.jpg",
                "na\u{ef}ve.jpg",
            ),
            (
                "filename=\"=?utf-8?B?bmHDr3ZlLmpwZw==?=\"",
                "na\u{ef}ve.jpg",
            ),
            // JavaMail
            (
                "filename=\"=?ISO-8859-1?Q?na=EFve_=25.jpg?=\"",
                "na\u{ef}ve %.jpg",
            ),
            ("filename*=iso-8859-1'en'na%EFve.jpg", "na\u{ef}ve.jpg"),
            // No encoding of ours
            (
                "filename=\"=?klingon?B?AAAA?=\"; filename*=klingon''a",
                "=?klingon?B?AAAA?=",
            ),
            ("filename=\"=?a?=\"", "=?a?="),
            ("filename=\"\"", ""),
        ] {
            let header = format!("form-data; name=\"image\"; {parameters}");
            assert_eq!(
                file_name(header.as_bytes()).as_deref(),
                Some(name),
                "{header}"
            );
        }
        assert_eq!(file_name(b"form-data; name=\"filename\""), None);
        let latin = b"form-data; name=image; filename=\"na\xefve \x80.jpg\"";
        assert_eq!(file_name(latin).as_deref(), Some("na\u{ef}ve \u{20ac}.jpg"));
    }
}
