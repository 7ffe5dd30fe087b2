//! Base64 that arrives in pieces, in every form in which programs write it.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// Longest head of a data URI, in bytes: `data:image/jpeg;base64,`
const URI_HEAD_BYTES_MAX: usize = 256;
const SCHEME: &[u8] = b"data:";

/// The text is no base64.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotBase64;

/// Decodes base64 piece by piece.
///
/// Takes the standard and the URL-safe alphabet, with padding or without, white space anywhere, and a data URI.
#[derive(Debug)]
pub(crate) struct Base64Decoder {
    /// The first bytes, until they tell whether the text is a data URI; `None` after that.
    head: Option<Vec<u8>>,
    /// Digits that do not make a group of four yet, in the standard alphabet.
    group: Vec<u8>,
    /// How many `=` have come.
    padding: usize,
    decoded: Vec<u8>,
}

impl Base64Decoder {
    pub fn new() -> Self {
        Self {
            head: Some(Vec::new()),
            group: Vec::with_capacity(4),
            padding: 0,
            decoded: Vec::new(),
        }
    }

    /// Decodes the next piece of the text. Returns the bytes that are complete now.
    pub fn push(&mut self, piece: &[u8]) -> Result<&[u8], NotBase64> {
        self.decoded.clear();
        let Some(mut head) = self.head.take() else {
            self.digits(piece)?;
            return Ok(&self.decoded);
        };
        head.extend_from_slice(piece);
        let text = head.trim_ascii_start();
        if text.len() < SCHEME.len() {
            // A text of white space is not collected.
            let text = text.to_vec();
            self.head = Some(text);
        } else if !text[..SCHEME.len()].eq_ignore_ascii_case(SCHEME) {
            self.digits(text)?;
        } else {
            let within = &text[..text.len().min(URI_HEAD_BYTES_MAX)];
            match within.iter().position(|byte| *byte == b',') {
                Some(comma) if is_base64_uri(&text[..comma]) => self.digits(&text[comma + 1..])?,
                Some(_) => return Err(NotBase64),
                None if text.len() >= URI_HEAD_BYTES_MAX => return Err(NotBase64),
                None => self.head = Some(head),
            }
        }
        Ok(&self.decoded)
    }

    /// Ends the text. Returns the last bytes.
    pub fn finish(&mut self) -> Result<&[u8], NotBase64> {
        self.decoded.clear();
        if let Some(head) = self.head.take() {
            self.digits(head.trim_ascii_start())?;
        }
        if !self.group.is_empty() {
            let group = std::mem::take(&mut self.group);
            self.decode(&group)?;
        }
        Ok(&self.decoded)
    }

    fn digits(&mut self, text: &[u8]) -> Result<(), NotBase64> {
        // Most texts have no white space: then nearly nothing is left.
        let rest = self.groups(text)?;
        for run in rest.split(u8::is_ascii_whitespace) {
            let rest = self.groups(run)?;
            rest.iter().try_for_each(|digit| self.digit(*digit))?;
        }
        Ok(())
    }

    /// Decodes whole groups at once, if there are only digits of one alphabet. Returns what is left: perhaps all.
    fn groups<'a>(&mut self, mut text: &'a [u8]) -> Result<&'a [u8], NotBase64> {
        while !self.group.is_empty()
            && let Some((digit, rest)) = text.split_first()
            && !digit.is_ascii_whitespace()
        {
            self.digit(*digit)?;
            text = rest;
        }
        if self.group.is_empty() && self.padding == 0 {
            let (groups, rest) = text.split_at(text.len() / 4 * 4);
            if self.decode(groups).is_ok() {
                return Ok(rest);
            }
        }
        Ok(text)
    }

    fn digit(&mut self, digit: u8) -> Result<(), NotBase64> {
        if digit == b'=' {
            self.padding += 1;
            let fills_group = self.group.len() >= 2 && self.group.len() + self.padding <= 4;
            return fills_group.then_some(()).ok_or(NotBase64);
        }
        if self.padding > 0 {
            return Err(NotBase64);
        }
        self.group.push(match digit {
            b'-' => b'+',
            b'_' => b'/',
            digit => digit,
        });
        if self.group.len() < 4 {
            return Ok(());
        }
        let mut group = std::mem::take(&mut self.group);
        let decoded = self.decode(&group);
        group.clear();
        self.group = group;
        decoded
    }

    /// Decodes digits of one alphabet, without padding. Leaves `decoded` as it was if they are not valid.
    fn decode(&mut self, digits: &[u8]) -> Result<(), NotBase64> {
        let length = self.decoded.len();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            if engine.decode_vec(digits, &mut self.decoded).is_ok() {
                return Ok(());
            }
            self.decoded.truncate(length);
        }
        Err(NotBase64)
    }
}

fn is_base64_uri(head: &[u8]) -> bool {
    const CODING: &[u8] = b";base64";
    let coding = head.len().checked_sub(CODING.len()).map(|at| &head[at..]);
    coding.is_some_and(|coding| coding.eq_ignore_ascii_case(CODING))
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
    };

    use super::{Base64Decoder, NotBase64};

    fn decode(text: &str, piece: usize) -> Result<Vec<u8>, NotBase64> {
        let mut decoder = Base64Decoder::new();
        let mut bytes = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            bytes.extend_from_slice(decoder.push(piece)?);
        }
        bytes.extend_from_slice(decoder.finish()?);
        Ok(bytes)
    }

    /// What the text decodes to, the same for all pieces.
    fn decoded(text: &str) -> Result<Vec<u8>, NotBase64> {
        let whole = decode(text, text.len().max(1));
        for piece in 1..20 {
            assert_eq!(decode(text, piece), whole, "{text:?} in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn base64_is_taken_as_programs_write_it() {
        for length in [0, 1, 2, 3, 4, 57, 58, 255, 1000] {
            let bytes: Vec<_> = (0..length).map(|at| (at * 37 % 256) as u8).collect();
            let standard = STANDARD.encode(&bytes);
            let lines = |end: &str| {
                let lines = standard.as_bytes().chunks(76);
                let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned() + end);
                lines.collect::<String>()
            };
            for text in [
                standard.clone(),
                STANDARD_NO_PAD.encode(&bytes),
                URL_SAFE.encode(&bytes),
                URL_SAFE_NO_PAD.encode(&bytes),
                lines("\n"),
                lines("\r\n"),
                format!(" {standard}\n"),
                format!("data:image/jpeg;base64,{standard}"),
                format!("\nDATA:;BASE64,{}", lines("\n")),
                format!("data:image/png;charset=utf-8;base64,{standard}"),
            ] {
                assert_eq!(decoded(&text).as_ref(), Ok(&bytes), "{text:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let endless = format!("data:{}", "x".repeat(1000));
        for text in [
            "not base64!",
            "A",
            "AAAAA",
            "AA=A",
            "AA===",
            "A===",
            "=",
            "AAAA=",
            "AA==AA==",
            "data:image/jpeg,AAAA",
            "data:image/jpeg;base64",
            "data:",
            "image/jpeg;base64,AAAA",
            "AAAA\u{e9}",
            endless.as_str(),
        ] {
            assert_eq!(decoded(text), Err(NotBase64), "{text:?}");
        }
    }
}
