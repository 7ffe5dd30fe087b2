//! Sweeping up objects that no row names: left by processes that died between a put and its commit, by uploads of the same
//! bytes that raced, and by attempts that turned out to be stale.

use std::collections::HashSet;

use sqlx::PgPool;

use crate::{
    db::answered,
    images::{self, CollectError},
    object_store::ObjectStore,
    results,
};

/// Objects of one page of the bucket.
const PAGE: i32 = 1000;

/// What is swept, place after place. Models are not: whoever pushes one may take longer than any grace.
const PLACES: [&str; 2] = [images::PREFIX, results::PREFIX];

/// Looks through the next page of the bucket, and what comes after a place's last one, for objects older than `grace_seconds` that no row names, and deletes them.
/// One process at a time moves on, `pause_seconds` after the last page; `None`: not due, or another's turn.
///
/// `grace_seconds` has to be longer than any submit can take from its upload to its commit, and any attempt from its put.
///
/// # Errors
/// Postgres or the store is away.
pub async fn sweep(
    db: &PgPool,
    store: &ObjectStore,
    grace_seconds: f64,
    pause_seconds: f64,
) -> Result<Option<u64>, CollectError> {
    let turn = sqlx::query!(
        "update orphan_sweep set swept_at = now() where swept_at < now() - make_interval(secs => $1)
         returning after_key, now() as \"now!\"",
        pause_seconds
    );
    let Some(turn) = answered(db, turn.fetch_optional(db)).await? else {
        return Ok(None);
    };
    let first = PLACES
        .iter()
        .position(|place| turn.after_key.starts_with(place))
        .unwrap_or(0);
    let (mut after, mut swept) = (turn.after_key.clone(), 0);
    for place in &PLACES[first..] {
        let page = store.list(place, &after, PAGE).await?;
        let old = page
            .iter()
            .filter(|object| (turn.now - object.modified_at).as_seconds_f64() > grace_seconds);
        let old: Vec<&str> = old.map(|object| object.key.as_str()).collect();
        let needed = answered(db, needed(db, place, &old)).await?;
        for key in old {
            if !needed.contains(key) {
                store.delete(key).await?;
                tracing::info!(object.key = key, "deleted an object that no row names");
                swept += 1;
            }
        }
        let last = (page.len() == PAGE as usize).then(|| page.last()).flatten();
        after = last.map_or_else(String::new, |object| object.key.clone());
        if last.is_some() {
            break;
        }
    }
    let passed = sqlx::query!(
        "update orphan_sweep set after_key = $1, passes = passes + case when $1 = '' then 1 else 0 end",
        after
    );
    answered(db, passed.execute(db)).await?;
    Ok(Some(swept))
}

/// Those of the keys that stay.
async fn needed(db: &PgPool, place: &str, keys: &[&str]) -> Result<HashSet<String>, sqlx::Error> {
    if place == results::PREFIX {
        results::needed(db, keys).await
    } else {
        images::needed(db, keys).await
    }
}
