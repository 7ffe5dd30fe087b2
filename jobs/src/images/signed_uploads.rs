//! Uploads straight into the bucket, by signed URLs. Each has a row until its URL can write no more.

use sqlx::PgPool;
use uuid::Uuid;

use super::{CollectError, Image, UploadRow, needed, object_key};
use crate::{
    Sha256Digest,
    db::{Db, answered},
    object_store::ObjectStore,
};

/// Rows that one step of [`sweep_signed_uploads`] removes.
const SWEEP_MAX: i64 = 200;

/// How long the rows of signed uploads live, and how many an owner may have.
#[derive(Debug, Clone, Copy)]
pub struct UploadTerms {
    /// How long the URL is valid, in seconds.
    pub url_seconds: f64,
    /// How long the upload can be named after that, in seconds.
    pub name_seconds: f64,
    /// Most uploads of one owner that no image names.
    pub uploads_max: i64,
}

/// A signed upload that can become an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedUpload {
    pub upload: Uuid,
    /// As they were signed.
    pub bytes: i64,
}

/// Signed uploads of these bytes that can become the image, newest first; at most 10. No object may have come yet.
///
/// # Errors
/// Postgres is away.
pub async fn signed_uploads(
    db: &PgPool,
    owner: &str,
    sha256: Sha256Digest,
) -> Result<Vec<SignedUpload>, sqlx::Error> {
    let found = sqlx::query_as!(
        SignedUpload,
        "select upload, bytes from signed_uploads
         where owner = $1 and sha256 = $2 and named_at is null and voided_at is null and lapses_at > now()
         order by upload desc limit 10",
        owner,
        sha256.as_bytes().as_slice()
    );
    found.fetch_all(db).await
}

/// Prolongs a signed upload of these bytes that was not named yet, so that a repeated request needs no more room. `None` if
/// there is none.
///
/// # Errors
/// Postgres is away.
pub async fn renew_signed_upload(
    db: &PgPool,
    owner: &str,
    sha256: Sha256Digest,
    bytes: i64,
    terms: UploadTerms,
) -> Result<Option<Uuid>, sqlx::Error> {
    let renewed = sqlx::query_scalar!(
        "update signed_uploads u
         set expires_at = greatest(u.expires_at, now() + make_interval(secs => $4)),
             lapses_at = greatest(u.lapses_at, now() + make_interval(secs => $4 + $5))
         where u.owner = $1 and u.sha256 = $2 and u.named_at is null and u.voided_at is null and u.upload = (
             select s.upload from signed_uploads s
             where s.owner = $1 and s.sha256 = $2 and s.bytes = $3 and s.named_at is null and s.voided_at is null and s.lapses_at > now()
             order by s.upload desc limit 1)
         returning u.upload",
        owner,
        sha256.as_bytes().as_slice(),
        bytes,
        terms.url_seconds,
        terms.name_seconds
    );
    renewed.fetch_optional(db).await
}

/// Records an upload before its URL is signed. `false`: the owner has too many uploads that no image names.
///
/// # Errors
/// Postgres is away.
pub async fn record_signed_upload(
    db: &PgPool,
    owner: &str,
    sha256: Sha256Digest,
    signed: SignedUpload,
    terms: UploadTerms,
) -> Result<bool, sqlx::Error> {
    let recorded = sqlx::query!(
        "insert into signed_uploads (owner, sha256, upload, bytes, expires_at, lapses_at)
         select $1, $2, $3, $4, now() + make_interval(secs => $5), now() + make_interval(secs => $5 + $6)
         where (select count(*) from (select from signed_uploads where owner = $1 and named_at is null limit $7) u) < $7",
        owner,
        sha256.as_bytes().as_slice(),
        signed.upload,
        signed.bytes,
        terms.url_seconds,
        terms.name_seconds,
        terms.uploads_max
    );
    Ok(recorded.execute(db).await?.rows_affected() > 0)
}

/// Records an upload that puts the lost object of an image back, under the key of this image. The row of the image counts its
/// bytes.
///
/// # Errors
/// Postgres is away.
pub async fn record_replacement(
    db: &PgPool,
    owner: &str,
    image: &Image,
    terms: UploadTerms,
) -> Result<(), sqlx::Error> {
    let recorded = sqlx::query!(
        "insert into signed_uploads as u (owner, sha256, upload, bytes, expires_at, lapses_at, named_at)
         values ($1, $2, $3, $4, now() + make_interval(secs => $5), now() + make_interval(secs => $5 + 300), now())
         on conflict (owner, sha256, upload) do update
         set expires_at = greatest(u.expires_at, excluded.expires_at), lapses_at = greatest(u.lapses_at, excluded.lapses_at)",
        owner,
        image.sha256.as_bytes().as_slice(),
        image.upload,
        image.bytes,
        terms.url_seconds
    );
    recorded.execute(db).await.map(drop)
}

/// Writes the row of the image of a signed upload, whose object was checked. Without a job the image is collected after the
/// grace. `false`: the upload has lapsed, was voided by a delete, or the owner has the image under another upload.
///
/// # Errors
/// Postgres is away.
pub async fn name_signed_upload(
    db: &PgPool,
    owner: &str,
    image: &Image,
) -> Result<bool, sqlx::Error> {
    let named = sqlx::query_scalar!(
        r#"select name_upload($1, $2, $3, $4, $5, $6, $7) as "named!""#,
        owner,
        image.sha256.as_bytes().as_slice(),
        image.upload,
        image.content_type,
        image.bytes,
        image.width,
        image.height,
    );
    named.fetch_one(db).await
}

/// Removes some signed uploads that have lapsed, with their objects; call again until it returns 0. Returns how many.
///
/// The row goes first. An object that cannot be deleted now is an orphan, which [`crate::orphans::sweep`] deletes.
///
/// # Errors
/// Postgres or the store is away.
pub async fn sweep_signed_uploads(db: &Db, store: &ObjectStore) -> Result<u64, CollectError> {
    let lapsed = sqlx::query_as!(
        UploadRow,
        "with lapsed as materialized (
             select owner, sha256, upload from signed_uploads
             where lapses_at < now() order by lapses_at limit $1 for update skip locked
         )
         delete from signed_uploads u using lapsed l
         where u.owner = l.owner and u.sha256 = l.sha256 and u.upload = l.upload
         returning u.owner, u.sha256, u.upload",
        SWEEP_MAX
    );
    let lapsed = answered(db, lapsed.fetch_all(db)).await?;
    let keys = lapsed.iter().map(UploadRow::object_key);
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    let names: Vec<_> = keys.iter().map(String::as_str).collect();
    let needed = answered(db, needed(db, &names)).await?;
    for key in keys.iter().filter(|key| !needed.contains(*key)) {
        store.delete(key).await?;
    }
    Ok(keys.len() as u64)
}

impl UploadRow {
    fn object_key(&self) -> Result<String, sqlx::Error> {
        Ok(object_key(&self.owner, self.digest()?, self.upload))
    }
}
