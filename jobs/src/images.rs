//! Uploaded images, named by owner and content. The bytes are in S3; `queue::enqueue` writes a row for each image.

mod collect;
mod damage;
mod image_loader;
mod purge;
mod register;
mod signed_uploads;
mod stored_bytes;

use std::collections::HashSet;

use sqlx::PgPool;
use uuid::Uuid;

pub use self::{
    collect::{CollectError, collect},
    damage::{Suspicion, check, check_reported, fail_jobs_of_lost_images, note_replaced, report},
    image_loader::{ImageLoader, find_all, find_many},
    purge::{PurgeOutcome, purge},
    register::register,
    signed_uploads::{
        SignedUpload, UploadTerms, name_signed_upload, record_replacement, record_signed_upload,
        renew_signed_upload, signed_uploads, sweep_signed_uploads,
    },
    stored_bytes::stored_bytes,
};
use crate::{
    JobId, Sha256Digest,
    object_store::{ObjectStore, StoreError},
};

/// Prefix of the keys of all images.
pub(crate) const PREFIX: &str = "images/";

/// An uploaded image that the API has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub sha256: Sha256Digest,
    /// Names the upload: each upload of equal bytes gets a new one.
    pub upload: Uuid,
    /// By the first bytes of the image, not by the client: `image/jpeg`.
    pub content_type: String,
    pub bytes: i64,
    /// Pixels by the image's header, before any EXIF rotation.
    pub width: i32,
    pub height: i32,
}

/// An image that is in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    pub image: Image,
    /// The last jobs of this image, newest first, in any state.
    pub recent_jobs: Vec<JobId>,
    /// What is known against its object; most images have nothing.
    pub suspicion: Option<Suspicion>,
}

/// The key of an owner's image in the bucket. Owners share no objects: equal bytes of two owners are two objects. Each upload
/// has its own key, so that the delete of an old object never hits a new one.
pub fn object_key(owner: &str, sha256: Sha256Digest, upload: Uuid) -> String {
    let folder = folder(owner, sha256);
    if upload.is_nil() {
        return folder; // stored before uploads had names
    }
    format!("{folder}/{}", upload.simple())
}

fn folder(owner: &str, sha256: Sha256Digest) -> String {
    let hex = sha256.hex();
    format!("{PREFIX}{owner}/{}/{hex}", &hex[..2])
}

/// The uploads of the objects that an owner has under this digest, with and without a row; at most `limit`.
///
/// # Errors
/// The store is away.
async fn uploads(
    store: &ObjectStore,
    owner: &str,
    sha256: Sha256Digest,
    limit: i32,
) -> Result<Vec<Uuid>, StoreError> {
    let folder = format!("{}/", folder(owner, sha256));
    let objects = store.list(&folder, "", limit).await?.into_iter();
    let uploads = objects.filter_map(|object| parse_object_key(&object.key));
    Ok(uploads.map(|(_, _, upload)| upload).collect())
}

/// An upload as the tables name it.
#[derive(Debug)]
struct UploadRow {
    owner: String,
    sha256: Vec<u8>,
    upload: Uuid,
}

impl UploadRow {
    fn digest(&self) -> Result<Sha256Digest, sqlx::Error> {
        let sha256 = Sha256Digest::try_from(self.sha256.as_slice());
        sha256.map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// Owner, digest and upload: they identify an object and a row.
type Name = (String, Sha256Digest, Uuid);

/// The arguments that [`object_key`] made a key of; `None` if the key has another origin.
fn parse_object_key(key: &str) -> Option<Name> {
    let mut parts = key.strip_prefix(PREFIX)?.split('/');
    let (owner, _, hex) = (parts.next()?, parts.next()?, parts.next()?);
    let sha256 = hex.parse().ok()?;
    let upload = parts
        .next()
        .map_or(Some(Uuid::nil()), |upload| Uuid::try_parse(upload).ok())?;
    (parts.next().is_none()).then(|| (owner.to_owned(), sha256, upload))
}

/// Those of `keys` that must stay: rows name them, or no upload made them.
pub(crate) async fn needed(db: &PgPool, keys: &[&str]) -> Result<HashSet<String>, sqlx::Error> {
    let mut needed = HashSet::new();
    let (mut owners, mut digests, mut uploads) = (vec![], vec![], vec![]);
    for key in keys {
        let Some((owner, sha256, upload)) = parse_object_key(key) else {
            needed.insert((*key).to_owned());
            continue;
        };
        owners.push(owner);
        digests.push(sha256.as_bytes().to_vec());
        uploads.push(upload);
    }
    let rows = sqlx::query_as!(
        UploadRow,
        r#"select object.owner as "owner!", object.sha256 as "sha256!", object.upload as "upload!"
         from unnest($1::text[], $2::bytea[], $3::uuid[]) as object(owner, sha256, upload)
         where exists (
             select from images i
             where i.owner = object.owner and i.sha256 = object.sha256 and i.upload = object.upload and i.purged_at is null)
           or exists (
             select from signed_uploads s
             where s.owner = object.owner and s.sha256 = object.sha256 and s.upload = object.upload and s.voided_at is null)"#,
        &owners,
        &digests,
        &uploads
    );
    for row in rows.fetch_all(db).await? {
        needed.insert(object_key(&row.owner, row.digest()?, row.upload));
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{object_key, parse_object_key};
    use crate::Sha256Digest;

    #[test]
    fn a_key_says_whose_image_it_is_and_which_upload() {
        let sha256 = Sha256Digest::of(b"cat");
        for upload in [Uuid::nil(), Uuid::now_v7()] {
            let key = object_key("alice", sha256, upload);
            let name = ("alice".to_owned(), sha256, upload);
            assert_eq!(parse_object_key(&key), Some(name));
        }
        for other in ["images/alice", "models/00/00", "images/alice/00/cat.jpg/x"] {
            assert_eq!(parse_object_key(other), None, "{other}");
        }
    }
}
