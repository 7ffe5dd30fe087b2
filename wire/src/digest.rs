//! SHA-256 digests, as requests name images.

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a digest: 64 hex digits, with or without `sha256:` before them. The text stays as the client wrote it.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_digest(&text) {
        return Ok(text);
    }
    Err(D::Error::custom(
        "not a SHA-256 digest: want 64 hex digits, with or without `sha256:` before them",
    ))
}

/// [`deserialize`] for a digest that may be missing.
pub(crate) fn deserialize_some<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Digest(#[serde(deserialize_with = "deserialize")] String);

    let digest = Option::<Digest>::deserialize(deserializer)?;
    Ok(digest.map(|Digest(text)| text))
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}
