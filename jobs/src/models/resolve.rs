//! Resolves a client's reference to one immutable model version.

use sqlx::{PgConnection, PgExecutor, types::Json};

use super::DEFAULT_ALIAS;
use crate::{
    Sha256Digest,
    batch_loader::{BatchLoad, BatchLoader, Loaded},
    db::StatementPool,
    job::ResolvedModel,
    manifest::Manifest,
};

/// A model version as a submit needs it.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub model_id: i64,
    pub model_version_id: i64,
    /// The reference with its alias spelled out: `efficientnet-lite0@default`.
    pub model_ref: String,
    pub model: ResolvedModel,
    pub manifest: Manifest,
}

/// The part of a reference that selects the version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pick<'a> {
    Alias(&'a str),
    Version(i32),
    Digest(Sha256Digest),
}

/// `name`, `name@alias`, `name:version`, `name@sha256:…`.
pub(super) fn parse(reference: &str) -> Option<(&str, Pick<'_>)> {
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

/// The reference of a retry on the current version: the alias of `model_ref`, or `default` if `model_ref` names a version or a
/// digest. SQL does the same: function `retry_job`.
pub fn current_reference(model_ref: &str) -> String {
    match parse(model_ref) {
        Some((name, Pick::Alias(alias))) => format!("{name}@{alias}"),
        Some((name, _)) => format!("{name}@{DEFAULT_ALIAS}"),
        None => model_ref.to_owned(),
    }
}

/// Resolves references; concurrent ones share a statement. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Resolver(BatchLoader<ReferenceLoad>);

#[derive(Debug)]
struct ReferenceLoad;

impl BatchLoad for ReferenceLoad {
    type Key = Option<String>;
    type Value = Resolved;
    type Error = sqlx::Error;

    const TASK: &'static str = "model resolver";

    async fn load(db: &mut PgConnection, keys: &[Self::Key]) -> Result<Loaded<Self>, sqlx::Error> {
        resolve_all(db, keys).await
    }
}

impl Resolver {
    pub fn start(db: StatementPool) -> Self {
        Self(BatchLoader::start(db))
    }

    /// Finds the version that a reference means now; without a reference, the default version of the default model. `None`: no
    /// such model, version or alias exists, or the version is retired, validating or rejected. `find_unready` tells the last three.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn resolve(&self, reference: Option<&str>) -> Result<Option<Resolved>, sqlx::Error> {
        self.0.load(reference.map(str::to_owned)).await
    }
}

/// Resolves many references. Those that [`Resolver::resolve`] cannot resolve are left out.
///
/// # Errors
/// Postgres is away.
pub async fn resolve_all(
    db: impl PgExecutor<'_>,
    references: &[Option<String>],
) -> Result<Vec<(Option<String>, Resolved)>, sqlx::Error> {
    let mut parsed = Vec::new();
    let (mut names, mut aliases, mut versions, mut digests) = (vec![], vec![], vec![], vec![]);
    for reference in references {
        let (name, pick) = match reference.as_deref().map(parse) {
            None => (None, Pick::Alias(DEFAULT_ALIAS)),
            Some(Some((name, pick))) => (Some(name), pick),
            Some(None) => continue,
        };
        names.push(name);
        aliases.push(match &pick {
            Pick::Alias(alias) => Some(*alias),
            _ => None,
        });
        versions.push(match &pick {
            Pick::Version(version) => Some(*version),
            _ => None,
        });
        digests.push(match &pick {
            Pick::Digest(digest) => Some(digest.as_bytes().to_vec()),
            _ => None,
        });
        parsed.push((reference, pick));
    }
    let rows = sqlx::query!(
        r#"select asked.nth as "nth!", v.model_id, v.model_version_id, m.name, v.version, v.digest,
                  v.manifest as "manifest: Json<Manifest>"
           from unnest($1::text[], $2::text[], $3::int[], $4::bytea[]) with ordinality as asked(name, alias, version, digest, nth)
           join models m on case when asked.name is null then m.is_default else m.name = asked.name end
           join model_versions v using (model_id)
           left join model_aliases a on a.model_version_id = v.model_version_id and a.alias = asked.alias
           where v.retired_at is null and v.state = 'ready'
             and (asked.alias is null or a.alias is not null)
             and (asked.version is null or v.version = asked.version)
             and (asked.digest is null or v.digest = asked.digest)"#,
        &names as &[Option<&str>],
        &aliases as &[Option<&str>],
        &versions as &[Option<i32>],
        &digests as &[Option<Vec<u8>>],
    );
    let mut resolved = Vec::new();
    for row in rows.fetch_all(db).await? {
        let Some((reference, pick)) = parsed.get(row.nth as usize - 1) else {
            continue;
        };
        let digest = row.digest.as_slice().try_into();
        let digest: Sha256Digest = digest.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let model_ref = match pick {
            Pick::Alias(alias) => format!("{}@{alias}", row.name),
            Pick::Version(version) => format!("{}:{version}", row.name),
            Pick::Digest(digest) => format!("{}@{digest}", row.name),
        };
        let version = Resolved {
            model_id: row.model_id,
            model_version_id: row.model_version_id,
            model_ref,
            model: ResolvedModel {
                name: row.name,
                version: row.version,
                digest,
            },
            manifest: row.manifest.0,
        };
        resolved.push(((*reference).clone(), version));
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::{Pick, current_reference, parse};
    use crate::Sha256Digest;

    #[test]
    fn the_current_version_is_the_one_of_the_alias_or_of_the_default() {
        assert_eq!(current_reference("lite@stable"), "lite@stable");
        assert_eq!(current_reference("lite:3"), "lite@default");
        let digest = format!("lite@{}", Sha256Digest::of(b"model"));
        assert_eq!(current_reference(&digest), "lite@default");
    }

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
