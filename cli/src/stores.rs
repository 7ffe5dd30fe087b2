//! Postgres and S3, for the commands that work without a running service; `darkroom migrate`.

use clap::Args;
use jobs::{
    bucket::{self, Program},
    db::{self, Db, DbConfig},
    object_store::{ObjectStore, StoreConfig},
};

use crate::{Ended, failure::Failure, terminal};

pub(crate) const CHECK_POSTGRES: &str = "check DATABASE_URL (and DATABASE_DIRECT_URL, if there is a pooler), that Postgres runs there, and \
     that its user may do this";
pub(crate) const CHECK_S3: &str = "check DARKROOM_S3_BUCKET and the AWS_… variables (AWS_ENDPOINT_URL_S3 for a store of your own, docs/s3.md); \
     --s3-create-bucket makes a missing bucket";

/// Connects to Postgres and brings the schema up to date.
pub(crate) async fn database(config: &DbConfig) -> Result<Db, Failure> {
    let pool = Db::connect(config, "darkroom");
    let pool = pool.map_err(|error| Failure::away("Postgres", &error, CHECK_POSTGRES))?;
    let migrated = db::migrate(&pool, config).await;
    migrated.map_err(|error| Failure::away("migrations", &error, CHECK_POSTGRES))?;
    Ok(pool)
}

/// Connects to the bucket and checks that it answers. `--s3-create-bucket` makes it first.
pub(crate) async fn objects(config: &StoreConfig) -> Result<ObjectStore, Failure> {
    let store = ObjectStore::connect(config).await;
    let store = store.map_err(|error| Failure::away("the bucket", &error, CHECK_S3))?;
    if config.s3_create_bucket {
        let made = store.create_bucket().await;
        made.map_err(|error| Failure::away("the bucket", &error, CHECK_S3))?;
    }
    let answered = store.ping().await;
    answered.map_err(|error| Failure::away("the bucket", &error, CHECK_S3))?;
    Ok(store)
}

/// Refuses a bucket that is not the one of the API: no worker would find files there.
pub(crate) async fn check_bucket(db: &Db, store: &ObjectStore) -> Result<(), Failure> {
    let state = bucket::find_marker(db, store, Program::CommandLine).await;
    let state = state.map_err(|error| Failure::away("Postgres", &error, CHECK_POSTGRES))?;
    match state.fault() {
        None => Ok(()),
        Some(why) => Err(Failure::Away {
            what: why.to_owned(),
            next: CHECK_S3,
        }),
    }
}

/// Brings the database's schema up to date
///
/// The services do so when they start, unless `--no-migrate` is given: this command is for deployments that migrate in a
/// step of their own. An advisory lock orders processes that migrate at the same time. The schema only grows, so that
/// programs of the version before keep running.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    db: DbConfig,
}

impl Migrate {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::away("migrations", error, CHECK_POSTGRES)
        };
        let db = Db::connect(&self.db, "darkroom").map_err(|error| failed(&error))?;
        // DARKROOM_NO_MIGRATE is meant for services: this command migrates all the same.
        let migrated = db::migrate_now(&db).await;
        migrated.map_err(|error| failed(&error))?;
        let newest = jobs::MIGRATOR.iter().last();
        let newest = newest.map(|one| format!("{:04} {}", one.version, one.description));
        terminal::line(format!("schema is at {}", newest.unwrap_or_default()))?;
        Ok(Ended::Well)
    }
}
