//! Uploaded images, content-addressed per owner. The bytes are in S3, the facts in a row that `queue::enqueue` writes.

mod collect;
mod finder;
mod purge;
mod register;
mod stored_bytes;

use std::collections::HashSet;

use sqlx::PgPool;
use uuid::Uuid;

pub use self::{
    collect::{CollectError, collect},
    finder::{Finder, find, find_many},
    purge::{PurgeOutcome, purge},
    register::register,
    stored_bytes::stored_bytes,
};
use crate::{
    JobId, Sha256Digest,
    object_store::{ObjectStore, StoreError, StoredObject},
};

/// What all keys of images begin with.
pub(crate) const PREFIX: &str = "images/";

/// What the API learned about an upload before it accepted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub sha256: Sha256Digest,
    /// Which upload of these bytes: new for one that just came in.
    pub upload: Uuid,
    /// As sniffed from the bytes: `image/jpeg`.
    pub content_type: String,
    pub bytes: i64,
    /// Pixels, as the header says, before any EXIF rotation.
    pub width: i32,
    pub height: i32,
}

/// An image that is in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub image: Image,
    /// The last jobs over it, newest first, whatever became of them.
    pub recent_jobs: Vec<JobId>,
}

/// Where an owner's image lies in the bucket. Owners share nothing: the same bytes of two owners are two objects. Each
/// upload has a name of its own, so that deleting an old object never hits a new one.
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

/// Objects of an owner with this digest that came in by themselves or otherwise, newest upload first: a few of them.
///
/// # Errors
/// The store is away.
pub async fn uploads(
    store: &ObjectStore,
    owner: &str,
    sha256: Sha256Digest,
) -> Result<Vec<(Uuid, StoredObject)>, StoreError> {
    let folder = format!("{}/", folder(owner, sha256));
    let objects = store.list(&folder, "", 100).await?.into_iter();
    let uploads = objects.filter_map(|object| {
        let (_, _, upload) = parse_object_key(&object.key)?;
        Some((upload, object))
    });
    let mut uploads: Vec<_> = uploads.collect();
    uploads.sort_unstable_by_key(|(upload, _)| std::cmp::Reverse(*upload));
    Ok(uploads)
}
/// Owner, digest and upload: what a key and a row have in common.
type Name = (String, Sha256Digest, Uuid);

/// What [`object_key`] made a key of; `None` if it did not.
fn parse_object_key(key: &str) -> Option<Name> {
    let mut parts = key.strip_prefix(PREFIX)?.split('/');
    let (owner, _, hex) = (parts.next()?, parts.next()?, parts.next()?);
    let sha256 = hex.parse().ok()?;
    let upload = parts
        .next()
        .map_or(Some(Uuid::nil()), |upload| Uuid::try_parse(upload).ok())?;
    (parts.next().is_none()).then(|| (owner.to_owned(), sha256, upload))
}

/// Those of these keys that rows name, and those that no upload has made.
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
    let rows = sqlx::query!(
        "select i.owner, i.sha256, i.upload
         from unnest($1::text[], $2::bytea[], $3::uuid[]) as object(owner, sha256, upload)
         join images i on i.owner = object.owner and i.sha256 = object.sha256 and i.upload = object.upload
         where i.purged_at is null",
        &owners,
        &digests,
        &uploads
    );
    for row in rows.fetch_all(db).await? {
        let sha256 = Sha256Digest::try_from(row.sha256.as_slice());
        let sha256 = sha256.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        needed.insert(object_key(&row.owner, sha256, row.upload));
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
