use std::{fmt, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::Db;

/// Connects to Postgres itself, past a pooler, for what needs a session: LISTEN and migrations. Cheap to clone.
///
/// Holds a pool for its options alone: a pool can get others while the process runs, such as a new password.
#[derive(Clone)]
pub struct DirectConnector(PgPool);

impl DirectConnector {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self(PgPoolOptions::new().connect_lazy_with(options))
    }

    /// Connects as the pool does.
    pub(super) fn with_options_of(pool: PgPool) -> Self {
        Self(pool)
    }

    /// The pool that holds the options.
    pub(super) fn into_options(self) -> PgPool {
        self.0
    }

    /// Makes a pool of one connection that never expires.
    pub(crate) fn one_connection(&self, acquire_timeout: Duration) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(acquire_timeout)
            .connect_lazy_with(self.0.connect_options().as_ref().clone())
    }
}

impl From<Db> for DirectConnector {
    fn from(db: Db) -> Self {
        db.direct()
    }
}

/// Shows nothing of the options: they hold a password.
impl fmt::Debug for DirectConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectConnector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Db,
        tests::{POOLER, POSTGRES, config},
    };

    #[tokio::test]
    async fn what_needs_a_session_goes_past_the_pooler_with_its_settings() {
        let db = Db::connect(&config(POOLER, Some(POSTGRES)), "test").expect("good URLs");
        let options = db.direct().0.connect_options();
        assert_eq!(options.get_port(), 5432);
        let settings = options.get_options().expect("settings");
        assert!(settings.contains("statement_timeout=70000"), "{settings}");
    }
}
