//! Uploaded images, content-addressed per owner. The bytes are in S3, the facts in a row that `queue::enqueue` writes.

use sqlx::PgPool;

use crate::Sha256Digest;

/// What the API learned about an upload before it accepted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub sha256: Sha256Digest,
    /// As sniffed from the bytes: `image/jpeg`.
    pub content_type: String,
    pub bytes: i64,
    /// Pixels, as the header says, before any EXIF rotation.
    pub width: i32,
    pub height: i32,
}

/// Where an owner's image lies in the bucket. Owners share nothing: the same bytes of two owners are two objects.
pub fn object_key(owner: &str, sha256: Sha256Digest) -> String {
    let hex = sha256.hex();
    format!("images/{owner}/{}/{hex}", &hex[..2])
}

/// The image that an owner has already stored under this digest, if it is still there.
///
/// # Errors
/// Postgres is away.
pub async fn find(
    db: &PgPool,
    owner: &str,
    sha256: Sha256Digest,
) -> Result<Option<Image>, sqlx::Error> {
    let row = sqlx::query!(
        "select content_type, bytes, width, height from images where owner = $1 and sha256 = $2 and purged_at is null",
        owner,
        sha256.as_bytes().as_slice()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Image {
        sha256,
        content_type: row.content_type,
        bytes: row.bytes,
        width: row.width,
        height: row.height,
    }))
}
