//! Deletes objects that no row names. Three things leave them: processes that died between a put and its commit, uploads of
//! equal bytes that raced, and attempts that lost their lease.

use std::collections::HashSet;

use sqlx::PgPool;

use crate::{
    db::{Db, answered},
    images::{self, CollectError},
    object_store::{CHECKS_PREFIX, ObjectStore},
    results,
};

/// Most objects of one page of the bucket.
const PAGE: i32 = 1000;

/// Key prefixes that are swept, one after the other. Models are not swept: a push may take longer than any grace.
const PREFIXES: [&str; 3] = [images::PREFIX, results::PREFIX, CHECKS_PREFIX];

/// Deletes those objects of the next page that are older than `grace_seconds` and that no row names. Continues with the next
/// prefix after the last page of one. Returns how many objects were deleted; `None` if no sweep is due.
///
/// A sweep is due `pause_seconds` after the last one, for one process. `grace_seconds` has to be longer than any submit can
/// take from its upload to its commit, and any attempt from its put to its commit.
///
/// # Errors
/// Postgres or the store is away.
pub async fn sweep(
    db: &Db,
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
    let first = PREFIXES
        .iter()
        .position(|prefix| turn.after_key.starts_with(prefix))
        .unwrap_or(0);
    let (mut after, mut swept) = (turn.after_key.clone(), 0);
    for prefix in &PREFIXES[first..] {
        let page = store.list(prefix, &after, PAGE).await?;
        let old = page
            .iter()
            .filter(|object| (turn.now - object.modified_at).as_seconds_f64() > grace_seconds);
        let old: Vec<&str> = old.map(|object| object.key.as_str()).collect();
        let needed = answered(db, needed(db, prefix, &old)).await?;
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
    let noted = sqlx::query!(
        "update orphan_sweep set after_key = $1, passes = passes + case when $1 = '' then 1 else 0 end",
        after
    );
    answered(db, noted.execute(db)).await?;
    Ok(Some(swept))
}

/// Those of `keys` that must stay.
async fn needed(db: &PgPool, prefix: &str, keys: &[&str]) -> Result<HashSet<String>, sqlx::Error> {
    match prefix {
        results::PREFIX => results::needed(db, keys).await,
        CHECKS_PREFIX => Ok(HashSet::new()),
        _ => images::needed(db, keys).await,
    }
}
