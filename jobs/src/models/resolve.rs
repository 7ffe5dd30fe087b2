//! From what a client writes to one immutable version.

use sqlx::{PgExecutor, PgPool, types::Json};

use super::DEFAULT_ALIAS;
use crate::{Sha256Digest, job::ResolvedModel, manifest::Manifest};

/// A model version as a submit needs it.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub model_id: i64,
    pub model_version_id: i64,
    /// What was asked for with its alias spelled out: `efficientnet-lite0@default`.
    pub model_ref: String,
    pub model: ResolvedModel,
    pub manifest: Manifest,
}

/// Which part of a reference picks the version.
#[derive(Debug, PartialEq, Eq)]
enum Pick<'a> {
    Alias(&'a str),
    Version(i32),
    Digest(Sha256Digest),
}

/// `name`, `name@alias`, `name:version`, `name@sha256:…`.
fn parse(reference: &str) -> Option<(&str, Pick<'_>)> {
    if let Some((name, digest)) = reference.split_once("@sha256:") {
        return Some((name, Pick::Digest(digest.parse().ok()?)));
    }
    if let Some((name, alias)) = reference.split_once('@') {
        return Some((name, Pick::Alias(alias)));
    }
    if let Some((name, version)) = reference.split_once(':') {
        return Some((name, Pick::Version(version.parse().ok()?)));
    }
    Some((reference, Pick::Alias(DEFAULT_ALIAS)))
}

/// Finds the version that a reference means now; without a reference, the default model's.
///
/// `None`: no such model, version or alias, or the version is retired.
///
/// # Errors
/// Postgres is away.
pub async fn resolve(
    db: &PgPool,
    reference: Option<&str>,
) -> Result<Option<Resolved>, sqlx::Error> {
    resolve_on(db, reference).await
}

/// The same on a connection of the caller's.
///
/// # Errors
/// Postgres is away.
pub async fn resolve_on(
    db: impl PgExecutor<'_>,
    reference: Option<&str>,
) -> Result<Option<Resolved>, sqlx::Error> {
    let (name, pick) = match reference.map(parse) {
        None => (None, Pick::Alias(DEFAULT_ALIAS)),
        Some(Some((name, pick))) => (Some(name), pick),
        Some(None) => return Ok(None),
    };
    let (alias, version, digest) = match &pick {
        Pick::Alias(alias) => (Some(*alias), None, None),
        Pick::Version(version) => (None, Some(*version), None),
        Pick::Digest(digest) => (None, None, Some(digest.as_bytes().as_slice())),
    };
    let row = sqlx::query!(
        r#"select v.model_id, v.model_version_id, m.name, v.version, v.digest, v.manifest as "manifest: Json<Manifest>"
           from model_versions v join models m using (model_id)
           left join model_aliases a on a.model_version_id = v.model_version_id and a.alias = $2
           where v.retired_at is null
             and case when $1::text is null then m.is_default else m.name = $1 end
             and ($2::text is null or a.alias is not null)
             and ($3::int is null or v.version = $3)
             and ($4::bytea is null or v.digest = $4)"#,
        name,
        alias,
        version,
        digest,
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let digest = row.digest.as_slice().try_into();
    let digest: Sha256Digest = digest.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let model_ref = match pick {
        Pick::Alias(alias) => format!("{}@{alias}", row.name),
        Pick::Version(version) => format!("{}:{version}", row.name),
        Pick::Digest(digest) => format!("{}@{digest}", row.name),
    };
    Ok(Some(Resolved {
        model_id: row.model_id,
        model_version_id: row.model_version_id,
        model_ref,
        model: ResolvedModel {
            name: row.name,
            version: row.version,
            digest,
        },
        manifest: row.manifest.0,
    }))
}

#[cfg(test)]
mod tests {
    use super::{Pick, parse};
    use crate::Sha256Digest;

    #[test]
    fn a_reference_names_an_alias_a_version_or_a_digest() {
        let digest = Sha256Digest::of(b"model");
        assert_eq!(parse("lite"), Some(("lite", Pick::Alias("default"))));
        assert_eq!(parse("lite@stable"), Some(("lite", Pick::Alias("stable"))));
        assert_eq!(parse("lite:3"), Some(("lite", Pick::Version(3))));
        assert_eq!(
            parse(&format!("lite@{digest}")),
            Some(("lite", Pick::Digest(digest)))
        );
        assert_eq!(parse("lite:three"), None);
        assert_eq!(parse("lite@sha256:12"), None);
    }
}
