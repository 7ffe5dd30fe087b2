use sqlx::PgPool;

use super::{
    VersionState,
    resolve::{Pick, parse},
};

/// A version that exists and takes no jobs: it is retired, or no worker has loaded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadyVersion {
    /// `name:version`.
    pub reference: String,
    pub state: VersionState,
    /// Whether the version is retired. Then `state` may be `Ready`.
    pub is_retired: bool,
}

/// Tells why a reference cannot be resolved: the newest retired, validating or rejected version that it names by number or digest,
/// or the newest version that waits for its alias. `None`: there is no such version.
///
/// # Errors
/// Postgres is away.
pub async fn find_unready(
    db: &PgPool,
    reference: &str,
) -> Result<Option<UnreadyVersion>, sqlx::Error> {
    let Some((name, pick)) = parse(reference) else {
        return Ok(None);
    };
    let (alias, version, digest) = match &pick {
        Pick::Alias(alias) => (Some(*alias), None, None),
        Pick::Version(version) => (None, Some(*version), None),
        Pick::Digest(digest) => (None, None, Some(digest.as_bytes().to_vec())),
    };
    let row = sqlx::query_file!("src/models/unready.sql", name, alias, version, digest);
    let row = row.fetch_optional(db).await?;
    row.map(|row| {
        Ok(UnreadyVersion {
            reference: format!("{name}:{}", row.version),
            state: VersionState::parse(&row.state)?,
            is_retired: row.is_retired,
        })
    })
    .transpose()
}
