use sqlx::PgPool;

use super::{
    VersionState,
    resolve::{Pick, parse},
};

/// A version that exists and takes no jobs, because no worker has loaded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadyVersion {
    /// `name:version`.
    pub reference: String,
    pub state: VersionState,
}

/// Tells why a reference cannot be resolved: the newest validating or rejected version that it names, or that waits for its alias.
/// `None`: there is no such version.
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
        })
    })
    .transpose()
}
