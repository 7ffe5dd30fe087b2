//! A store that loses objects, or returns other bytes, until the bytes are put back.

use std::time::Duration;

use bytes::Bytes;
use jobs::{
    Sha256Digest,
    images::object_key,
    object_store::{Body, StoreError},
};
use rand::{RngExt, rngs::StdRng};
use sqlx::Connection;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cluster::Cluster;

/// What the store does to an object.
#[derive(Debug, Clone, Copy)]
pub enum Damage {
    Lost,
    OtherBytes,
}

/// How many images a fault damages at most.
const DAMAGED_MAX: usize = 12;
/// How long a fault looks for images that jobs wait for.
const SEARCH_MAX: Duration = Duration::from_secs(4);
/// How long the store needs to take a put. No other fault of the store runs at the same time.
const PUT_BACK_MAX: Duration = Duration::from_secs(20);

/// The object of an image that a job waits for.
#[derive(Debug, sqlx::FromRow)]
struct Target {
    owner: String,
    sha256: Vec<u8>,
    upload: Uuid,
    content_type: String,
}

impl Target {
    fn sha256(&self) -> Sha256Digest {
        Sha256Digest::try_from(self.sha256.as_slice()).unwrap()
    }

    fn key(&self) -> String {
        object_key(&self.owner, self.sha256(), self.upload)
    }

    async fn damage(&self, cluster: &Cluster, damage: Damage) -> Result<(), StoreError> {
        match damage {
            Damage::Lost => cluster.store.delete(&self.key()).await,
            Damage::OtherBytes => {
                let other = Bytes::from_static(b"other bytes");
                self.put(cluster, &other, Sha256Digest::of(&other)).await
            }
        }
    }

    async fn put(
        &self,
        cluster: &Cluster,
        bytes: &Bytes,
        sha256: Sha256Digest,
    ) -> Result<(), StoreError> {
        let (key, body) = (self.key(), Body::Memory(bytes));
        let put = cluster.store.put(&key, body, sha256, &self.content_type);
        put.await
    }

    /// Puts the bytes back, unless the image was deleted: its object must not come back. The row is locked, so that a delete
    /// removes the object after this put.
    async fn put_back(&self, cluster: &Cluster, bytes: &Bytes) {
        let mut connection = cluster.db.acquire().await.unwrap();
        let mut db = connection.begin().await.unwrap();
        let kept = sqlx::query(
            "select from images where owner = $1 and sha256 = $2 and upload = $3 and purged_at is null for update",
        );
        let kept = kept.bind(&self.owner).bind(&self.sha256).bind(self.upload);
        if kept.fetch_optional(&mut *db).await.unwrap().is_some() {
            let until = Instant::now() + PUT_BACK_MAX;
            while let Err(error) = self.put(cluster, bytes, self.sha256()).await {
                assert!(Instant::now() < until, "{}: {error}", self.key());
                sleep(Duration::from_millis(100)).await;
            }
        }
        db.commit().await.unwrap();
    }
}

/// Damages the objects of some images that jobs wait for, and puts them back after some seconds. Returns whether there were any.
pub async fn damage_for_a_while(cluster: &Cluster, dice: &mut StdRng, damage: Damage) -> bool {
    let mut damaged = Vec::new();
    let until = Instant::now() + SEARCH_MAX;
    while damaged.is_empty() && Instant::now() < until {
        for target in targets(cluster).await {
            let Ok(bytes) = cluster.store.get(&target.key(), target.sha256()).await else {
                continue;
            };
            // An error says nothing about whether the object was changed.
            drop(target.damage(cluster, damage).await);
            damaged.push((target, bytes));
        }
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(dice.random_range(2_000..5_000))).await;
    for (target, bytes) in &damaged {
        target.put_back(cluster, bytes).await;
    }
    !damaged.is_empty()
}

/// Images of the jobs that came last: their workers have not fetched them yet.
async fn targets(cluster: &Cluster) -> Vec<Target> {
    let waiting = "select owner, sha256, upload, content_type from images i
        where purged_at is null and (owner, sha256) in (
            select owner, image_sha256 from live_jobs where state in ('queued', 'running') order by seq desc limit $1
        )";
    let waiting = sqlx::query_as(waiting).bind(DAMAGED_MAX as i64);
    waiting.fetch_all(&*cluster.db).await.unwrap_or_default()
}
