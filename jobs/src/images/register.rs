use sqlx::PgPool;

use super::Image;

/// Writes the row of an image whose object is in the bucket already. Without a job the image is collected after the grace.
/// `false`: the owner has the image under another upload, or a delete of the image ended this upload.
///
/// # Errors
/// Postgres is away.
pub async fn register(db: &PgPool, owner: &str, image: &Image) -> Result<bool, sqlx::Error> {
    let registered = sqlx::query!(
        "insert into images as i (owner, sha256, upload, content_type, bytes, width, height, unused_since)
         values ($1, $2, $3, $4, $5, $6, $7, now())
         on conflict (owner, sha256) do update
         set upload = excluded.upload, purged_at = null, last_used_at = now(),
             unused_since = case when i.jobs = 0 then now() end
         where i.purged_at is not null and i.upload <> excluded.upload and excluded.upload <> all(i.voided)",
        owner,
        image.sha256.as_bytes().as_slice(),
        image.upload,
        image.content_type,
        image.bytes,
        image.width,
        image.height,
    );
    Ok(registered.execute(db).await?.rows_affected() > 0)
}
