//! What each process found, for `ops.health`.

use sqlx::PgPool;

use super::BucketState;
use crate::object_store::Right;

/// What kind of process checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Api,
    Worker,
    /// It checks, but records nothing.
    CommandLine,
}

impl Program {
    fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::CommandLine => "command line",
        }
    }
}

/// The last check of one process.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    pub program: Program,
    /// Tells processes of one program apart.
    pub process: &'a str,
    pub state: &'a BucketState,
    pub missing_rights: &'a [Right],
}

/// Replaces the row of this process, and removes rows of processes that have not checked for an hour.
///
/// # Errors
/// Postgres is away.
pub async fn record(db: &PgPool, checked: Checked<'_>) -> Result<(), sqlx::Error> {
    let Checked {
        program,
        process,
        state,
        missing_rights,
    } = checked;
    let rights: Vec<String> = missing_rights
        .iter()
        .map(|right| right.name().to_owned())
        .collect();
    let written = sqlx::query!(
        "with gone as (
             delete from bucket_checks where checked_at < now() - interval '1 hour' and (program, process) <> ($1, $2)
         )
         insert into bucket_checks (program, process, fault, missing_rights) values ($1, $2, $3, $4)
         on conflict (program, process) do update
             set checked_at = now(), fault = excluded.fault, missing_rights = excluded.missing_rights",
        program.as_str(),
        process,
        state.fault(),
        &rights
    );
    written.execute(db).await.map(drop)
}
