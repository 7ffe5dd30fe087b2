//! A string that cannot be printed.

use std::{
    convert::Infallible,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

/// Longest secret in a file, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A password, a key, or a URL that contains one. Every format prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The content of a file, as orchestrators mount secrets. Line breaks at the end are not part of the secret.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or is too long for a secret.
    pub fn read_file(path: &Path) -> Result<Self, SecretFileError> {
        let fault = |fault| SecretFileError {
            path: path.to_owned(),
            fault,
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| fault(SecretFileFault::Unreadable(error)))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(fault(SecretFileFault::TooLong));
        }
        let text = String::from_utf8(bytes).map_err(|_| fault(SecretFileFault::NotText))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(fault(SecretFileFault::Empty));
        }
        Ok(Self::new(text))
    }

    /// The text itself. Call it only where the text is used.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

/// Why a file holds no secret. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", .path.display())]
pub struct SecretFileError {
    path: PathBuf,
    fault: SecretFileFault,
}

#[derive(Debug, thiserror::Error)]
enum SecretFileFault {
    #[error("{0}")]
    Unreadable(io::Error),
    #[error("longer than {FILE_BYTES_MAX} bytes, so no secret")]
    TooLong,
    #[error("no UTF-8 text")]
    NotText,
    #[error("empty")]
    Empty,
}
