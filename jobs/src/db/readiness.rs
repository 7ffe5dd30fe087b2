//! Whether the process can use Postgres now, as `/readyz` says it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, PgPool, Row};

use super::{Db, Trouble, advice, answered, suspects::suspect_connections};

/// How long a login that succeeded counts. Connections of the pool stay open when a password changes, so they tell nothing
/// about it.
const LOGIN_EVERY: Duration = Duration::from_secs(5);

/// Why no submit could be committed now. The text is the next step for an operator.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("{}", Trouble::advice(*.0))]
    Trouble(Trouble),
    /// Postgres cannot be reached, or no connection is free.
    #[error("{}", advice(.0).unwrap_or("Postgres cannot be used; the log of this process says why"))]
    Db(#[from] sqlx::Error),
}

/// When a new connection could last log in.
#[derive(Debug, Default)]
pub(super) struct LoginCheck(Mutex<Option<Instant>>);

impl LoginCheck {
    /// Opens a connection of its own, if the last one is too long ago.
    ///
    /// Fails only if the server refuses the login: whether a connection is free is for the pool to tell.
    async fn check(&self, pool: &PgPool) -> Result<(), NotReady> {
        let is_fresh = |at: Instant| at.elapsed() < LOGIN_EVERY;
        if self.last().is_some_and(is_fresh) {
            return Ok(());
        }
        let options = pool.connect_options();
        match PgConnection::connect_with(&options).await {
            Ok(connection) => drop(connection.close().await),
            Err(error) => match Trouble::of(&error) {
                Some(Trouble::Login | Trouble::NoDatabase) => return Err(error.into()),
                _ => return Ok(()),
            },
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Db {
    /// Checks that a statement could write now, and that a new connection could log in. Takes two round trips at most, and
    /// waits no longer than a statement may; the caller may wait for less.
    ///
    /// # Errors
    /// What an operator has to change.
    pub async fn check_ready(&self) -> Result<(), NotReady> {
        self.login.check(&self.pool).await?;
        let state = answered(self, async {
            let mut connection = self.pool.acquire().await?;
            state(&mut connection).await
        });
        let state = Box::pin(state).await?;
        if state.is_read_only {
            suspect_connections();
            return Err(NotReady::Trouble(Trouble::ReadOnly));
        }
        if state.has_no_ids {
            return Err(NotReady::Trouble(Trouble::TransactionIds));
        }
        Ok(())
    }
}

/// What keeps a server from writing.
struct ServerState {
    is_read_only: bool,
    has_no_ids: bool,
}

async fn state(connection: &mut PgConnection) -> Result<ServerState, sqlx::Error> {
    // Postgres assigns no ids to the last three million of the two billion that a database may be old.
    let state = sqlx::query_as!(
        ServerState,
        r#"select current_setting('transaction_read_only')::bool as "is_read_only!",
                  (select max(age(datfrozenxid)) > 2144483646 from pg_database) as "has_no_ids!""#
    );
    state.fetch_one(connection).await
}

/// Whether the server of the connection takes writes: it is no standby, and writes are not turned off. One round trip, as a
/// ping.
pub(crate) async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let shown = sqlx::raw_sql("show transaction_read_only");
    let row = shown.fetch_one(connection).await?;
    let is_read_only: String = row.try_get(0)?;
    Ok(is_read_only == "off")
}
