//! A pooler in transaction mode between us and Postgres: docs/adr/0017-behind-a-pooler.md.
//!
//! Which connection of Postgres serves us is decided anew for each transaction. Nothing of a session may be left on it, and
//! nothing that needs a session goes that way.

use std::{fmt, str::FromStr, time::Duration};

use sqlx::{
    PgPool,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{DbConfig, session};

/// The way to Postgres itself, for what needs a session: LISTEN and migrations.
#[derive(Clone)]
pub struct Direct(PgConnectOptions);

impl Direct {
    /// Without a direct URL `database_url` leads there.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn of(config: &DbConfig, application: &str) -> Result<Self, sqlx::Error> {
        let url = config.direct_url().unwrap_or(&config.database_url);
        session(url, config, application).map(Self)
    }

    /// A pool of one connection, which may stay for as long as it likes.
    pub(crate) fn one_connection(&self, patience: Duration) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(patience)
            .connect_lazy_with(self.0.clone())
    }
}

/// The options hold a password.
impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").finish_non_exhaustive()
    }
}

/// Of a pool that leads there itself.
impl From<PgPool> for Direct {
    fn from(pool: PgPool) -> Self {
        Self(pool.connect_options().as_ref().clone())
    }
}

/// To the pooler, without settings: it refuses those that it cannot keep apart for its clients.
pub(super) fn options(
    config: &DbConfig,
    application: &str,
) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(config.database_url.expose())?;
    if options.get_options().is_some() {
        let refused = "DATABASE_URL and PGOPTIONS may hold no `options` where DATABASE_DIRECT_URL is set: \
            give those to the role by `alter role … set …`";
        return Err(sqlx::Error::Configuration(refused.into()));
    }
    let options = options.application_name(application);
    Ok(options.extra_float_digits(None))
}

/// Whether a pool leads to a pooler. Every other one of [`connect`](super::connect) gives its connections settings.
pub(super) fn is_before(db: &PgPool) -> bool {
    db.connect_options().get_options().is_none()
}

/// The next step, where it was a pooler that refused what only Postgres itself can do.
pub(crate) fn advised(error: sqlx::Error) -> sqlx::Error {
    let said = error.as_database_error().map(DatabaseError::message);
    match said {
        Some(said) if said.contains("unsupported startup parameter") => {
            let advice = format!(
                "this is a pooler, not Postgres ({said}): let DATABASE_URL lead to the pooler and DATABASE_DIRECT_URL to \
                 Postgres itself, as docs/sql.md says (\"Behind PgBouncer\")"
            );
            sqlx::Error::Configuration(advice.into())
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Direct, is_before};
    use crate::{
        Secret,
        db::{DbConfig, connect, statement_max},
    };

    fn config(url: &str, direct_url: Option<&str>) -> DbConfig {
        DbConfig {
            database_url: Secret::new(url),
            database_direct_url: direct_url.map(Secret::new),
            db_connections_max: 4,
            db_acquire_timeout_ms: 5_000,
            db_statement_timeout_ms: 70_000,
            no_migrate: true,
        }
    }

    const POOLER: &str = "postgres://one@localhost:6432/darkroom";
    const POSTGRES: &str = "postgres://one@localhost:5432/darkroom";

    #[tokio::test]
    async fn the_longest_time_of_a_statement_is_known_on_both_ways() {
        for direct_url in [None, Some(POSTGRES)] {
            let pool = connect(&config(POOLER, direct_url), "test").expect("good URLs");
            assert_eq!(statement_max(&pool), Duration::from_secs(70));
            assert_eq!(is_before(&pool), direct_url.is_some());
        }
    }

    #[tokio::test]
    async fn a_direct_url_that_is_empty_is_none() {
        let pool = connect(&config(POSTGRES, Some("")), "test").expect("good URLs");
        assert!(!is_before(&pool));
    }

    #[test]
    fn what_needs_a_session_goes_past_the_pooler_with_its_settings() {
        let direct = Direct::of(&config(POOLER, Some(POSTGRES)), "test").expect("good URLs");
        assert_eq!(direct.0.get_port(), 5432);
        let settings = direct.0.get_options().expect("settings");
        assert!(settings.contains("statement_timeout=70000"), "{settings}");
    }

    #[test]
    fn settings_in_the_url_of_a_pooler_are_refused_with_the_next_step() {
        let url = format!("{POOLER}?options=-c%20jit%3Doff");
        let refused = connect(&config(&url, Some(POSTGRES)), "test").expect_err("settings");
        assert!(refused.to_string().contains("alter role"), "{refused}");
    }
}
