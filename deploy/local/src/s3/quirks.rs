//! Behaves as other stores do, or as a policy would make S3 do, as the file `quirks.json` in the folder of the objects says.
//! Every request reads the file.
//!
//! For tests of clients. Without the file there are no quirks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3s::{S3Result, s3_error};
use serde::Deserialize;

/// Name of the file, in the folder of the objects.
const FILE: &str = "quirks.json";

/// A kind of request that a policy may deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Get,
    Put,
    List,
    Delete,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QuirksFile {
    /// Requests that are answered with `AccessDenied`.
    deny: Vec<Kind>,
    /// Answers a put with `x-amz-checksum-sha256` with 501.
    refuse_checksums: bool,
    /// Takes bytes that differ from `x-amz-checksum-sha256`.
    ignore_checksums: bool,
}

/// The quirks of one server.
#[derive(Debug, Clone)]
pub(crate) struct Quirks {
    file: Arc<PathBuf>,
}

impl Quirks {
    pub(crate) fn beside(data: &Path) -> Self {
        Self {
            file: Arc::new(data.join(FILE)),
        }
    }

    /// A file that is only half written counts as missing.
    fn read(&self) -> QuirksFile {
        let text = std::fs::read(&*self.file).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Fails if a request of this kind is denied.
    pub(crate) fn check(&self, kind: Kind) -> S3Result<()> {
        if self.read().deny.contains(&kind) {
            return Err(s3_error!(AccessDenied, "as quirks.json asks"));
        }
        Ok(())
    }

    /// The SHA-256 that a put must have: the announced one, unless checksums are ignored.
    pub(crate) fn sha256_to_check(&self, announced: Option<String>) -> S3Result<Option<String>> {
        let quirks = self.read();
        if quirks.refuse_checksums && announced.is_some() {
            return Err(s3_error!(NotImplemented, "as quirks.json asks"));
        }
        Ok(announced.filter(|_| !quirks.ignore_checksums))
    }
}
