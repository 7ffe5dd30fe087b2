use std::{fmt, sync::Arc, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::Db;

/// Connects to Postgres itself, past a pooler, for what needs a session: LISTEN and migrations. Cheap to clone.
#[derive(Clone)]
pub struct DirectConnector(Arc<PgConnectOptions>);

impl DirectConnector {
    pub(super) fn new(options: impl Into<Arc<PgConnectOptions>>) -> Self {
        Self(options.into())
    }

    /// Makes a pool of one connection that never expires.
    pub(crate) fn one_connection(&self, acquire_timeout: Duration) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(acquire_timeout)
            .connect_lazy_with(self.0.as_ref().clone())
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
        let options = db.direct().0;
        assert_eq!(options.get_port(), 5432);
        let settings = options.get_options().expect("settings");
        assert!(settings.contains("statement_timeout=70000"), "{settings}");
    }
}
