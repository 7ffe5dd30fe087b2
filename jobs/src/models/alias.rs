use sqlx::PgPool;

use super::VersionState;

/// Result of [`set_alias`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetAliasOutcome {
    /// The alias now means this version.
    Set,
    NoModel,
    NoVersion,
    /// The version is retired: no new job may name it.
    Retired,
    /// The version is validating or rejected: no job may name it yet.
    NotReady(VersionState),
}

/// Whether `text` may be an alias, by the rule of the table: `[a-z][a-z0-9._-]{0,49}`.
pub fn is_alias(text: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(rest) && text.len() <= 50
}

/// Moves an alias of a model to this version. Existing jobs keep their version. `actor` is the name for the audit.
///
/// # Errors
/// Postgres is away, or refuses the alias: see [`is_alias`].
pub async fn set_alias(
    db: &PgPool,
    model: &str,
    alias: &str,
    version: i32,
    actor: &str,
) -> Result<SetAliasOutcome, sqlx::Error> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('set_alias', $1, jsonb_build_object('alias', $2::text, 'version', $3::int), set_model_alias($1, $2, $3), $4) as "outcome!""#,
        model,
        alias,
        version,
        actor
    );
    Ok(match outcome.fetch_one(db).await?.as_str() {
        "set" => SetAliasOutcome::Set,
        "no model" => SetAliasOutcome::NoModel,
        "no version" => SetAliasOutcome::NoVersion,
        "retired" => SetAliasOutcome::Retired,
        state => SetAliasOutcome::NotReady(VersionState::parse(state)?),
    })
}
