use crate::{
    db::{Db, answered},
    images::CollectError,
    object_store::ObjectStore,
};

/// Deletes the objects of some results whose jobs were purged; call again until it returns 0. Returns how many.
///
/// The purge moved the object's key from the result to `purged_object`. The key is cleared only after the object was deleted,
/// so an interrupted or concurrent collection deletes it once more.
///
/// # Errors
/// Postgres or the store is away.
pub async fn collect(db: &Db, store: &ObjectStore) -> Result<u64, CollectError> {
    let purged = sqlx::query!(
        r#"select job_id, purged_object as "key!" from finished_jobs where purged_object is not null limit 200"#
    );
    let purged = answered(db, purged.fetch_all(db)).await?;
    for result in &purged {
        store.delete(&result.key).await?;
    }
    let ids: Vec<_> = purged.iter().map(|result| result.job_id).collect();
    let collected = sqlx::query!(
        "update finished_jobs set purged_object = null where job_id = any($1)",
        &ids
    );
    answered(db, collected.execute(db)).await?;
    Ok(purged.len() as u64)
}
