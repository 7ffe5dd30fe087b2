use clap::Args;
use jobs::db::{Db, DbConfig, migrate_now};

use crate::{Ended, failure::Failure, plain, stores};

/// Brings the database's schema up to date
///
/// Services do so themselves when they start, unless told not to (`--no-migrate`): this is for deployments that keep it
/// apart. An advisory lock orders processes that do it at the same time; the schema only grows, so that yesterday's
/// binaries run on.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    db: DbConfig,
}

impl Migrate {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::away("migrations", error, stores::CHECK_POSTGRES)
        };
        let db = Db::connect(&self.db, "darkroom").map_err(|error| failed(&error))?;
        // Asked for by name: DARKROOM_NO_MIGRATE, which is meant for services, does not stop it.
        let migrated = migrate_now(&db).await;
        migrated.map_err(|error| failed(&error))?;
        let newest = jobs::MIGRATOR.iter().last();
        let newest = newest.map(|one| format!("{:04} {}", one.version, one.description));
        plain::line(format!("schema is at {}", newest.unwrap_or_default()))?;
        Ok(Ended::Well)
    }
}
