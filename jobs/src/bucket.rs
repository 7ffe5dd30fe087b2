//! Whether a process has the bucket of its database.
//!
//! An API process puts a marker object, whose name the database has. A process that does not find it has another bucket: it
//! would end jobs for images that are stored elsewhere. What each process finds is a row, for `ops.health`.

mod marker;
mod record;

use uuid::Uuid;

use self::marker::{Marker, Search};
pub use self::record::{Checked, Program, record};
use crate::{
    db::Db,
    object_store::{BucketReport, ObjectStore, StoreError},
};

/// What a process can do with its bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketState {
    Usable,
    /// The store does not answer, or answers with errors that may pass. The text says which store.
    Away(String),
    /// An operator has to change a setting. The text says which one.
    Refused(String),
}

impl From<StoreError> for BucketState {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(why) => Self::Refused(why),
            error => Self::Away(error.to_string()),
        }
    }
}

impl BucketState {
    /// Why the bucket cannot be used.
    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Usable => None,
            Self::Away(why) | Self::Refused(why) => Some(why),
        }
    }
}

/// Tries every kind of request that an API process makes. `name` is the process's own.
pub async fn try_requests(store: &ObjectStore, name: Uuid) -> (BucketState, Option<BucketReport>) {
    match store.check(name).await {
        Ok(report) => (BucketState::Usable, Some(report)),
        Err(error) => (error.into(), None),
    }
}

/// Looks for the marker, for an API process. Puts it if the bucket is that of the database: the marker is new, or the bucket has
/// an object that the database names. `adopts_bucket` puts it into any bucket.
///
/// # Errors
/// Postgres is away.
pub async fn keep_marker(
    db: &Db,
    store: &ObjectStore,
    adopts_bucket: bool,
) -> Result<BucketState, sqlx::Error> {
    let (marker, is_new) = marker::claim(db, store).await?;
    match marker.search(store).await {
        Search::Found => return Ok(BucketState::Usable),
        Search::Failed(error) => return Ok(error.into()),
        Search::Missing => {}
    }
    if !is_new && !adopts_bucket {
        let named = marker::some_keys(db).await?;
        match find_any(store, &named).await {
            Ok(true) => {
                let place = store.place();
                tracing::warn!(
                    place,
                    "the bucket has lost its marker object; putting it again"
                );
            }
            Ok(false) if named.is_empty() => {}
            Ok(false) => {
                return Ok(BucketState::Refused(format!(
                    "{} is not the bucket of this database: it has no object `{}` and none of {} objects that the \
                     database names. The API last used bucket `{}` at {}. Check {}, or start once with --s3-adopt-bucket",
                    store.place(),
                    marker.key(),
                    named.len(),
                    marker.bucket,
                    marker.endpoint,
                    store.place_settings()
                )));
            }
            Err(error) => return Ok(error.into()),
        }
    }
    if let Err(error) = marker.put(store).await {
        return Ok(error.into());
    }
    marker::note_place(db, store).await?;
    Ok(BucketState::Usable)
}

async fn find_any(store: &ObjectStore, keys: &[String]) -> Result<bool, StoreError> {
    for key in keys {
        if store.exists(key).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks for the marker, and puts none. Before any API process has put one this only asks whether the bucket answers.
///
/// # Errors
/// Postgres is away.
pub async fn find_marker(
    db: &Db,
    store: &ObjectStore,
    program: Program,
) -> Result<BucketState, sqlx::Error> {
    let Some(marker) = marker::expected(db).await? else {
        let pinged = store.ping().await;
        return Ok(pinged.map_or_else(BucketState::from, |()| BucketState::Usable));
    };
    Ok(match marker.search(store).await {
        Search::Found => BucketState::Usable,
        Search::Failed(error) => error.into(),
        Search::Missing => BucketState::Refused(without_marker(&marker, store, program)),
    })
}

fn without_marker(marker: &Marker, store: &ObjectStore, program: Program) -> String {
    let what = match program {
        Program::Api => "the bucket has lost its marker",
        Program::CommandLine => "the bucket is not the one of the API",
        Program::Worker => "this worker's bucket is not the one of the API",
    };
    format!(
        "{what}: {} has no object `{}`, which the API put into bucket `{}` at {}. Check {}",
        store.place(),
        marker.key(),
        marker.bucket,
        marker.endpoint,
        store.place_settings()
    )
}
