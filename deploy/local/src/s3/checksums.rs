//! Verifies the checksums that a client may send with an upload, in headers or in trailers.
//!
//! A SHA-256 in a header is not verified here: the storage does that, because it hashes every object.

use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::PutObjectInput;

const CRC32: &str = "x-amz-checksum-crc32";
const CRC32C: &str = "x-amz-checksum-crc32c";
const CRC64NVME: &str = "x-amz-checksum-crc64nvme";
const SHA1: &str = "x-amz-checksum-sha1";
const SHA256: &str = "x-amz-checksum-sha256";

/// Computes the checksums that the client announced while the body arrives, and compares them at its end.
pub(crate) struct Checksums {
    hasher: ChecksumHasher,
    md5: Option<Md5>,
    /// Header name and base64 value of the checksums that came before the body.
    expected: Vec<(&'static str, String)>,
    md5_expected: Option<String>,
}

impl Checksums {
    /// Takes the announced values out of the request.
    pub(crate) fn from_request(input: &mut PutObjectInput, headers: &HeaderMap) -> Self {
        let mut expected = Vec::new();
        let mut take = |name, value: &mut Option<String>| {
            if let Some(value) = value.take() {
                expected.push((name, value));
            }
        };
        take(CRC32, &mut input.checksum_crc32);
        take(CRC32C, &mut input.checksum_crc32c);
        take(CRC64NVME, &mut input.checksum_crc64nvme);
        take(SHA1, &mut input.checksum_sha1);
        let trailer = headers
            .get("x-amz-trailer")
            .and_then(|names| names.to_str().ok());
        let trailer = trailer.unwrap_or_default().to_ascii_lowercase();
        let wanted = |name: &'static str| {
            expected.iter().any(|(known, _)| *known == name)
                || trailer.split(',').any(|announced| announced.trim() == name)
        };
        let hasher = ChecksumHasher {
            crc32: wanted(CRC32).then(Crc32::new),
            crc32c: wanted(CRC32C).then(Crc32c::new),
            crc64nvme: wanted(CRC64NVME).then(Crc64Nvme::new),
            sha1: wanted(SHA1).then(Sha1::new),
            sha256: wanted(SHA256).then(Sha256::new),
        };
        let md5_expected = input.content_md5.take();
        let md5 = md5_expected.is_some().then(Md5::new);
        Self {
            hasher,
            md5,
            expected,
            md5_expected,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }

    /// Whether the body has all announced checksums. `trailers` came after the body.
    pub(crate) fn match_body(self, trailers: Option<&HeaderMap>) -> bool {
        let actual = self.hasher.finalize();
        let computed = [
            (CRC32, actual.checksum_crc32),
            (CRC32C, actual.checksum_crc32c),
            (CRC64NVME, actual.checksum_crc64nvme),
            (SHA1, actual.checksum_sha1),
            (SHA256, actual.checksum_sha256),
        ];
        let agrees = |(name, actual): (&'static str, Option<String>)| {
            let Some(actual) = actual else { return true };
            let before = self.expected.iter().find(|(known, _)| *known == name);
            let before = before.map(|(_, value)| value.as_str());
            let after = trailers.and_then(|trailers| trailers.get(name)?.to_str().ok());
            // A checksum that `x-amz-trailer` announced is missing only if the body was cut short.
            before.or(after).is_some_and(|expected| expected == actual)
        };
        let md5_agrees = match (self.md5, self.md5_expected) {
            (Some(md5), Some(expected)) => {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.encode(md5.finalize()) == expected
            }
            _ => true,
        };
        md5_agrees && computed.into_iter().all(agrees)
    }
}
