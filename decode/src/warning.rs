//! What is wrong with the file of an image whose pixels are all there.

use serde::{Deserialize, Serialize};

/// What is wrong with the file of an image whose pixels are all there. The codes are frozen: clients may branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// A header has a wrong value that does not change the pixels, such as the scan parameters of a baseline JPEG.
    BadHeader,
    /// A checksum that the pixels do not depend on is wrong.
    BadChecksum,
    /// EXIF data or a color profile cannot be read. It is ignored.
    BadMetadata,
    /// There are bytes where the format allows none, such as between two segments of a JPEG.
    StrayBytes,
    /// The mark at the end of the file is missing.
    MissingEnd,
}

impl Warning {
    pub const ALL: [Self; 5] = [
        Self::BadHeader,
        Self::BadChecksum,
        Self::BadMetadata,
        Self::StrayBytes,
        Self::MissingEnd,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadHeader => "bad_header",
            Self::BadChecksum => "bad_checksum",
            Self::BadMetadata => "bad_metadata",
            Self::StrayBytes => "stray_bytes",
            Self::MissingEnd => "missing_end",
        }
    }
}
