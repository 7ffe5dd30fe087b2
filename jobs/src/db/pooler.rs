//! A pooler in transaction mode between this process and Postgres: docs/adr/0017-behind-a-pooler.md.
//!
//! The pooler chooses a connection of Postgres for each transaction. Nothing of a session may stay on that connection, and
//! nothing that needs a session goes through the pooler.

use sqlx::{error::DatabaseError, postgres::PgConnectOptions};

use super::{DbConfig, url};

/// Options of a connection to the pooler, without settings: a pooler refuses those that it cannot keep apart by client.
pub(super) fn options(
    config: &DbConfig,
    application: &str,
) -> Result<PgConnectOptions, sqlx::Error> {
    let options = url::parse(&config.database_url, "DATABASE_URL")?;
    if options.get_options().is_some() {
        let refused = "DATABASE_URL and PGOPTIONS may hold no `options` where DATABASE_DIRECT_URL is set: \
            give those to the role by `alter role … set …`";
        return Err(sqlx::Error::Configuration(refused.into()));
    }
    let options = options.application_name(application);
    Ok(options.extra_float_digits(None))
}

/// Adds the next step to the error of a pooler that refuses what only Postgres itself can do.
pub(crate) fn with_advice(error: sqlx::Error) -> sqlx::Error {
    let message = error.as_database_error().map(DatabaseError::message);
    match message {
        Some(message) if message.contains("unsupported startup parameter") => {
            let advice = format!(
                "this is a pooler, not Postgres ({message}): let DATABASE_URL lead to the pooler and DATABASE_DIRECT_URL to \
                 Postgres itself, as docs/sql.md says (\"Behind PgBouncer\")"
            );
            sqlx::Error::Configuration(advice.into())
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Db,
        tests::{POOLER, POSTGRES, config},
    };

    #[tokio::test] // making a pool needs a runtime
    async fn settings_in_the_url_of_a_pooler_are_refused_with_the_next_step() {
        let url = format!("{POOLER}?options=-c%20jit%3Doff");
        let refused = Db::connect(&config(&url, Some(POSTGRES)), "test").expect_err("settings");
        assert!(refused.to_string().contains("alter role"), "{refused}");
    }
}
