//! Images whose object is lost or has other bytes. A worker reports them. The API looks for itself, because the worker may
//! have another bucket.

use serde_json::Value;
use sqlx::PgPool;

use super::{CollectError, Image, object_key};
use crate::{
    Problem, ProblemCode, Sha256Digest,
    db::{Db, answered},
    object_store::{ObjectStore, StoreError},
};

/// Images that one step of [`check_reported`] looks at.
const CHECKS_MAX: i64 = 20;
/// How long a damaged image stays unchecked, in seconds: an operator may put its object back.
const RECHECK_SECONDS: f64 = 300.0;
/// Jobs that one step of [`fail_jobs_of_lost_images`] ends.
const FAILED_MAX: i64 = 200;

/// What is known against the object of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// A worker found it missing or with other bytes.
    Reported,
    /// The API found so too.
    Damaged,
}

/// Reports that this worker's bucket has no object of the image, or one with other bytes.
///
/// # Errors
/// Postgres is away.
pub async fn report(
    db: &PgPool,
    owner: &str,
    sha256: Sha256Digest,
    upload: uuid::Uuid,
) -> Result<(), sqlx::Error> {
    let reported = sqlx::query!(
        "select report_image($1, $2, $3)",
        owner,
        sha256.as_bytes().as_slice(),
        upload
    );
    reported.execute(db).await.map(drop)
}

/// Reads the object of an image, and notes whether it is the image. Returns whether it is.
///
/// # Errors
/// Postgres or the store is away.
pub async fn check(
    db: &PgPool,
    store: &ObjectStore,
    owner: &str,
    image: &Image,
) -> Result<bool, CollectError> {
    let key = object_key(owner, image.sha256, image.upload);
    let is_intact = match store.inspect(&key, image.sha256, image.bytes, 0).await {
        Ok(_) => true,
        Err(StoreError::Missing(_) | StoreError::Corrupt(_)) => false,
        Err(error) => return Err(error.into()),
    };
    note(db, owner, image, is_intact).await?;
    Ok(is_intact)
}

/// Notes that the object of an image is there again: a client has sent the bytes once more.
///
/// # Errors
/// Postgres is away.
pub async fn note_replaced(db: &PgPool, owner: &str, image: &Image) -> Result<(), sqlx::Error> {
    note(db, owner, image, true).await
}

async fn note(db: &PgPool, owner: &str, image: &Image, is_intact: bool) -> Result<(), sqlx::Error> {
    let noted = sqlx::query!(
        "update images i
         set reported_at = case when not $4 then coalesce(i.reported_at, now()) end,
             checked_at = case when not $4 then now() end,
             damaged_at = case when not $4 then coalesce(i.damaged_at, now()) end
         where i.owner = $1 and i.sha256 = $2 and i.upload = $3 and i.purged_at is null",
        owner,
        image.sha256.as_bytes().as_slice(),
        image.upload,
        is_intact
    );
    noted.execute(db).await.map(drop)
}

/// Looks at some images that workers reported, and again at those that were damaged five minutes ago. Call again until it
/// returns 0. Returns how many.
///
/// # Errors
/// Postgres or the store is away.
pub async fn check_reported(db: &Db, store: &ObjectStore) -> Result<u64, CollectError> {
    let reported = sqlx::query!(
        "select owner, sha256, upload, content_type, bytes, width, height, damaged_at is not null as \"was_damaged!\" from images
         where reported_at is not null and purged_at is null
           and (checked_at is null or checked_at < now() - make_interval(secs => $1))
         order by checked_at nulls first limit $2",
        RECHECK_SECONDS,
        CHECKS_MAX
    );
    let reported = answered(db, reported.fetch_all(db)).await?;
    let checked = reported.len() as u64;
    let mut failed = None;
    for row in reported {
        let sha256 = Sha256Digest::try_from(row.sha256.as_slice());
        let image = Image {
            sha256: sha256.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            upload: row.upload,
            content_type: row.content_type,
            bytes: row.bytes,
            width: row.width,
            height: row.height,
        };
        let is_intact = match check(db, store, &row.owner, &image).await {
            Ok(is_intact) => is_intact,
            Err(error) => {
                // Counts as checked. Otherwise this image would come first at every call, and no other image would be checked.
                let put_off = sqlx::query!(
                    "update images set checked_at = now() where owner = $1 and sha256 = $2 and reported_at is not null",
                    row.owner,
                    row.sha256
                );
                answered(db, put_off.execute(db)).await?;
                failed = Some(error);
                continue;
            }
        };
        let object = object_key(&row.owner, image.sha256, image.upload);
        match (row.was_damaged, is_intact) {
            (false, false) => {
                tracing::error!(
                    object.key = object,
                    "the bucket lost an image or has other bytes"
                );
            }
            (true, true) => tracing::info!(object.key = object, "a lost image is back"),
            (false, true) => {
                tracing::warn!(
                    object.key = object,
                    "a worker reported an image that is in the bucket: the worker may have another bucket"
                );
            }
            (true, false) => {}
        }
    }
    failed.map_or(Ok(checked), Err)
}

/// Ends some waiting jobs whose image has been damaged for `seconds`; call again until it returns 0. Returns how many. No
/// attempt is charged.
///
/// # Errors
/// Postgres is away.
pub async fn fail_jobs_of_lost_images(db: &PgPool, seconds: f64) -> Result<u64, sqlx::Error> {
    let failed = sqlx::query_scalar!(
        r#"with lost as materialized (
             select j.job_id, j.lease_no
             from (select owner, sha256 from images
                   where reported_at is not null and purged_at is null and damaged_at < now() - make_interval(secs => $1)) i
             join live_jobs j on j.owner = i.owner and j.image_sha256 = i.sha256
             where j.state in ('queued', 'scheduled')
             order by j.job_id limit $2
         ),
         leases as (
             select array_agg(job_id) as job_ids, array_agg(lease_no) as lease_nos, count(*)::int as jobs from lost
         )
         select count(wake('darkroom_changed', replace(s.job_id::text, '-', ''))) as "failed!"
         from leases l
         cross join lateral settle(l.job_ids, l.lease_nos, array_fill('image_lost'::text, array[l.jobs]), array_fill($3::jsonb, array[l.jobs])) as s(job_id)
         where l.jobs > 0"#,
        seconds,
        FAILED_MAX,
        lost_image()
    );
    Ok(failed.fetch_one(db).await?.unsigned_abs())
}

fn lost_image() -> Value {
    let detail = "the object store has lost the image of this job: submit the image again";
    Problem::new(ProblemCode::DataPurged, detail).to_json()
}
