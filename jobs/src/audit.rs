//! The audit of what the functions of `ops` do not write themselves: reads and rotations of secrets, deletions, refused logins.

use serde_json::Value;
use sqlx::PgPool;

/// One row of `ops.audit`.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// Who did it; the login of the database if `None`.
    pub actor: Option<String>,
    pub verb: &'static str,
    /// What it was done to, as clients name it.
    pub subject: String,
    pub arguments: Value,
    pub outcome: &'static str,
}

/// Writes the acts in one statement.
///
/// # Errors
/// Postgres is away: no act is written.
pub async fn record(db: &PgPool, acts: &[Act]) -> Result<(), sqlx::Error> {
    let text = |field: fn(&Act) -> &str| acts.iter().map(|act| field(act).to_owned()).collect();
    let (verbs, subjects, outcomes): (Vec<String>, Vec<String>, Vec<String>) = (
        text(|act| act.verb),
        text(|act| &act.subject),
        text(|act| act.outcome),
    );
    let arguments: Vec<Value> = acts.iter().map(|act| act.arguments.clone()).collect();
    let actors: Vec<Option<String>> = acts.iter().map(|act| act.actor.clone()).collect();
    sqlx::query!(
        "select audited(a.verb, a.subject, a.arguments, a.outcome, a.actor)
         from unnest($1::text[], $2::text[], $3::jsonb[], $4::text[], $5::text[]) as a(verb, subject, arguments, outcome, actor)",
        &verbs,
        &subjects,
        &arguments,
        &outcomes,
        &actors as &[Option<String>],
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// Deletes rows that are older than this, 30 days at least; up to 100,000 of them. Returns how many were deleted.
///
/// # Errors
/// Postgres is away.
pub async fn prune(db: &PgPool, retain_days: i32) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select prune_audit($1) as "pruned!""#, retain_days)
        .fetch_one(db)
        .await
}
