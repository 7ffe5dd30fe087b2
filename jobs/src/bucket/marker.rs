//! The marker object, and the row that names it.

use bytes::Bytes;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    Sha256Digest, images, models,
    object_store::{Body, ObjectStore, StoreError},
};

/// Objects that are looked for when the marker is missing: images and model files, this many of each.
const SAMPLE: i64 = 5;

/// The marker that the database expects, and where it was put last.
#[derive(Debug)]
pub(super) struct Marker {
    pub id: Uuid,
    pub bucket: String,
    pub endpoint: String,
}

/// What came of looking for the marker.
#[derive(Debug)]
pub(super) enum Search {
    Found,
    Missing,
    Failed(StoreError),
}

impl Marker {
    pub fn key(&self) -> String {
        format!("markers/{}", self.id.simple())
    }

    fn bytes(&self) -> Bytes {
        Bytes::from(format!("bucket of Darkroom {}\n", self.id.simple()))
    }

    pub async fn search(&self, store: &ObjectStore) -> Search {
        let key = self.key();
        let found = store.get(&key, Sha256Digest::of(&self.bytes()));
        match found.await {
            Ok(_) => Search::Found,
            Err(StoreError::Missing(_)) => Search::Missing,
            Err(error) => Search::Failed(error),
        }
    }

    pub async fn put(&self, store: &ObjectStore) -> Result<(), StoreError> {
        let bytes = self.bytes();
        let (key, sha256) = (self.key(), Sha256Digest::of(&bytes));
        let put = store.put(&key, Body::Memory(&bytes), sha256, "text/plain");
        put.await
    }
}

/// The marker, if an API process has ever made one.
pub(super) async fn expected(db: &PgPool) -> Result<Option<Marker>, sqlx::Error> {
    let row = sqlx::query_as!(
        Marker,
        "select marker as id, bucket, endpoint from bucket_marker"
    );
    row.fetch_optional(db).await
}

/// The marker, and whether this call made it: then no process has put it yet.
pub(super) async fn claim(db: &PgPool, store: &ObjectStore) -> Result<(Marker, bool), sqlx::Error> {
    if let Some(marker) = expected(db).await? {
        return Ok((marker, false));
    }
    let made = sqlx::query!(
        "insert into bucket_marker (bucket, endpoint) values ($1, $2) on conflict do nothing",
        store.bucket(),
        store.endpoint()
    );
    let is_new = made.execute(db).await?.rows_affected() == 1;
    let marker = expected(db).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok((marker, is_new))
}

/// Notes where the marker was put, for the messages of other processes.
pub(super) async fn note_place(db: &PgPool, store: &ObjectStore) -> Result<(), sqlx::Error> {
    let noted = sqlx::query!(
        "update bucket_marker set bucket = $1, endpoint = $2, written_at = now()",
        store.bucket(),
        store.endpoint()
    );
    noted.execute(db).await.map(drop)
}

/// Keys of objects that the bucket of the database has: a few images and model files. Any will do, so nothing is sorted.
pub(super) async fn some_keys(db: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    let images = sqlx::query!(
        "select owner, sha256, upload from images where purged_at is null limit $1",
        SAMPLE
    );
    let images = images.fetch_all(db).await?.into_iter();
    let images = images.filter_map(|image| {
        let sha256 = Sha256Digest::try_from(image.sha256.as_slice()).ok()?;
        Some(images::object_key(&image.owner, sha256, image.upload))
    });
    let files = sqlx::query_scalar!(
        r#"select f.value as "sha256!" from model_versions v, jsonb_each_text(v.files) f limit $1"#,
        SAMPLE
    );
    let files = files.fetch_all(db).await?.into_iter();
    let files = files.filter_map(|sha256| sha256.parse().ok().map(models::object_key));
    Ok(images.chain(files).collect())
}
