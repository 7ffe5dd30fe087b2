//! Postgres and S3, for the commands that go past the service.

use jobs::{
    db::{self, Db, DbConfig},
    object_store::{ObjectStore, StoreConfig},
};

use crate::failure::Failure;

pub(crate) const CHECK_POSTGRES: &str = "check DATABASE_URL (and DATABASE_DIRECT_URL, if there is a pooler), that Postgres runs there, and \
     that its user may do this";
pub(crate) const CHECK_S3: &str = "check DARKROOM_S3_BUCKET and the AWS_… variables (AWS_ENDPOINT_URL_S3 for a store of your own); \
     --s3-create-bucket makes a missing bucket";

/// The pool, its schema brought up to date.
pub(crate) async fn database(config: &DbConfig) -> Result<Db, Failure> {
    let pool = Db::connect(config, "darkroom");
    let pool = pool.map_err(|error| Failure::away("Postgres", &error, CHECK_POSTGRES))?;
    let migrated = db::migrate(&pool, config).await;
    migrated.map_err(|error| Failure::away("migrations", &error, CHECK_POSTGRES))?;
    Ok(pool)
}

/// The bucket, made if that was asked for.
pub(crate) async fn objects(config: &StoreConfig) -> Result<ObjectStore, Failure> {
    let store = ObjectStore::connect(config).await;
    if config.s3_create_bucket {
        let made = store.create_bucket().await;
        made.map_err(|error| Failure::away("the bucket", &error, CHECK_S3))?;
    }
    Ok(store)
}
