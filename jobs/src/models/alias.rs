use sqlx::PgPool;

use super::VersionState;

/// Result of [`set_alias`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetAliasOutcome {
    /// The alias now means this version. `from`: the version that it meant before; `None` for a new alias.
    Set {
        from: Option<i32>,
    },
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
    // The subquery sees the row as it was when the statement began.
    let row = sqlx::query!(
        r#"select audited('set_alias', $1, jsonb_build_object('alias', $2::text, 'version', $3::int), set_model_alias($1, $2, $3), $4) as "outcome!",
                  (select v.version from model_aliases a join model_versions v using (model_version_id) join models m on m.model_id = a.model_id
                   where m.name = $1 and a.alias = $2) as "from""#,
        model,
        alias,
        version,
        actor
    )
    .fetch_one(db)
    .await?;
    Ok(match row.outcome.as_str() {
        "set" => SetAliasOutcome::Set { from: row.from },
        "no model" => SetAliasOutcome::NoModel,
        "no version" => SetAliasOutcome::NoVersion,
        "retired" => SetAliasOutcome::Retired,
        state => SetAliasOutcome::NotReady(VersionState::parse(state)?),
    })
}

/// Result of [`delete_alias`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteAliasOutcome {
    Deleted,
    /// There is no such model or alias.
    NotFound,
    /// The alias `default` of the default model: jobs that name no model use it. It can only be moved.
    Needed,
}

/// Deletes an alias of a model. Existing jobs keep their version. `actor` is the name for the audit.
///
/// # Errors
/// Postgres is away.
pub async fn delete_alias(
    db: &PgPool,
    model: &str,
    alias: &str,
    actor: &str,
) -> Result<DeleteAliasOutcome, sqlx::Error> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('delete_alias', $1, jsonb_build_object('alias', $2::text), delete_model_alias($1, $2), $3) as "outcome!""#,
        model,
        alias,
        actor
    );
    Ok(match outcome.fetch_one(db).await?.as_str() {
        "deleted" => DeleteAliasOutcome::Deleted,
        "not found" => DeleteAliasOutcome::NotFound,
        _ => DeleteAliasOutcome::Needed,
    })
}
