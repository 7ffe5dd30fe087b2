use std::{
    error::Error,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, pool::PoolConnection};

use super::{
    Db, PING_AFTER_IDLE, PING_TIMEOUT, answered, no_answer,
    suspects::{is_suspect, suspect_connections},
    takes_writes,
};

/// A statement pool keeps at most this part of the pool's connections, rounded down. A process may have two statement pools
/// (the API has one more for look-ups by key); the rest is for all other statements.
const PART: usize = 3;

/// A connection that is used again and again never idles. It is checked once in this time, so that one that only reads does not
/// stay with a standby after a failover. One round trip in this time costs nothing that can be measured.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Connections that go from statement to statement without a return to the pool, which would reset and ping each of them:
/// two more round trips a statement (docs/adr/0012-one-plan.md). Cheap to clone.
///
/// A connection stays here if its statement succeeded. After an error, and when its future was dropped, it returns to the
/// pool.
///
/// Behind a pooler a connection of Postgres belongs to one transaction. There each statement is a transaction with the
/// settings in it.
#[derive(Debug, Clone)]
pub struct StatementPool {
    db: Db,
    idle: Arc<Mutex<Vec<IdleConnection>>>,
    /// Given to each connection that comes from the pool; the pool resets them.
    settings: Arc<str>,
    /// Behind a pooler: begins a transaction that has the settings.
    begin: Option<Arc<str>>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: PoolConnection<Postgres>,
    opened_before: Instant,
    checked: Instant,
    since: Instant,
}

/// A connection for one statement.
#[derive(Debug)]
pub struct PooledConnection {
    connection: PoolConnection<Postgres>,
    /// When the connection came from the pool.
    opened_before: Instant,
    /// When the server was last known to take writes, or the connection came from the pool.
    checked: Instant,
    pool: StatementPool,
}

impl StatementPool {
    /// Plans once, whatever the parameters. A sequential scan is disabled: it is the cheapest plan for a table that was empty
    /// when the plan was made.
    pub const ONE_PLAN: &str =
        "set jit = off; set plan_cache_mode = force_generic_plan; set enable_seqscan = off";
    /// As [`Self::ONE_PLAN`], and the plan must not contain a hash join or a merge join.
    pub const BY_KEYS: &str =
        "set jit = off; set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
        set enable_hashjoin = off; set enable_mergejoin = off";

    /// As [`Self::BY_KEYS`], and rows come in the order of an index: the plan must not contain a sort. For the pages of lists. A plan
    /// that was made over a small table also serves when the table is large. To plan a page over sixty days of partitions takes
    /// longer than to read it.
    pub const IN_ORDER: &str =
        "set jit = off; set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
        set enable_hashjoin = off; set enable_mergejoin = off;
        set enable_bitmapscan = off; set enable_sort = off; set enable_incremental_sort = off";
    /// For statements over many rows, as the planner likes them best.
    const READS: &str = "set jit = off";

    /// For statements that have one sensible plan, whatever the statistics say. Postgres would plan them anew each time:
    /// docs/adr/0012-one-plan.md. `plans.rs` of the tests checks each plan.
    pub fn with_one_plan(db: Db) -> Self {
        Self::new(db, Self::ONE_PLAN)
    }

    /// For statements that only look rows up by their keys.
    pub fn by_keys(db: Db) -> Self {
        Self::new(db, Self::BY_KEYS)
    }

    /// For statements over many rows.
    pub(super) fn for_reads(db: Db) -> Self {
        Self::with_timeout(db, Self::READS)
    }

    /// For the pages of lists.
    pub(super) fn in_order(db: Db) -> Self {
        Self::with_timeout(db, Self::IN_ORDER)
    }

    /// Behind a pooler too, the server cancels each statement after the statement timeout of `db`.
    fn with_timeout(db: Db, settings: &str) -> Self {
        let timeout = db.statement_timeout().as_millis();
        Self::new(
            db,
            &format!("{settings}; set statement_timeout = {timeout}"),
        )
    }

    fn new(db: Db, settings: &str) -> Self {
        let begin = db.mode.is_transaction().then(|| {
            let local = settings.replace("set ", "set local ");
            format!("begin isolation level read committed; {local}").into()
        });
        Self {
            db,
            idle: Arc::default(),
            settings: settings.into(),
            begin,
        }
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    pub fn pool(&self) -> &PgPool {
        self.db.pool()
    }

    /// Runs one statement, no longer than [`answered`] allows.
    ///
    /// # Errors
    /// Those of `statement`; [`sqlx::Error::Io`] without an answer: it is not known whether the statement was executed.
    pub async fn run<T, E: From<sqlx::Error> + Error + 'static>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        answered(&self.db, async {
            let mut connection = self.take().await?;
            if let Some(begin) = &self.begin {
                connection = Box::pin(connection.begin(begin.clone())).await?;
            }
            let result = statement(&mut connection).await;
            if self.begin.is_some() {
                Box::pin(connection.end_transaction(result.is_ok())).await?;
            }
            let value = result?;
            connection.give_back();
            Ok(value)
        })
        .await
    }

    /// Takes a connection, to be returned by [`PooledConnection::give_back`]. Behind a pooler the connection lacks the
    /// settings, which only [`run`](Self::run) can set.
    ///
    /// # Errors
    /// Postgres is away, or the pool has no connection to spare.
    pub async fn take(&self) -> Result<PooledConnection, sqlx::Error> {
        while let Some(idle) = self.last_used() {
            let mut connection = idle.connection;
            let (opened_before, checked) = (idle.opened_before, idle.checked);
            if is_suspect(opened_before) {
                drop(connection.detach());
                continue;
            }
            if idle.since.elapsed() < PING_AFTER_IDLE && checked.elapsed() < CHECK_EVERY {
                return Ok(self.lend(connection, opened_before, checked));
            }
            let ping = takes_writes(&mut connection);
            match tokio::time::timeout(self.db.ping_timeout(), ping).await {
                Ok(Ok(true)) => {
                    return Ok(self.lend(connection, opened_before, Instant::now()));
                }
                Ok(Ok(false)) => suspect_connections(),
                _ => {}
            }
            // Closed without a farewell, for which a half-open connection would wait.
            drop(connection.detach());
        }
        // Boxed, because it is rare and its future is large.
        Box::pin(self.take_from_pool()).await
    }

    /// The pool does not ping a connection that was used a moment ago. If that connection is half-open, the settings are the
    /// first statement to find out.
    async fn take_from_pool(&self) -> Result<PooledConnection, sqlx::Error> {
        let until = Instant::now() + self.db.options().get_acquire_timeout();
        loop {
            let mut connection = self.db.acquire().await?;
            let opened_before = Instant::now();
            if self.begin.is_some() {
                return Ok(self.lend(connection, opened_before, opened_before)); // `begin` finds out
            }
            let set = sqlx::raw_sql(AssertSqlSafe(self.settings.clone())).execute(&mut *connection);
            match tokio::time::timeout(PING_TIMEOUT, set).await {
                Ok(set) => {
                    return set.map(|_| self.lend(connection, opened_before, opened_before));
                }
                Err(_) => drop(connection.detach()),
            }
            if Instant::now() > until {
                return Err(no_answer());
            }
        }
    }

    /// The connection that was used last, so that those which are not needed expire.
    fn last_used(&self) -> Option<IdleConnection> {
        self.idle.lock().expect("no panic holds it").pop()
    }

    fn lend(
        &self,
        connection: PoolConnection<Postgres>,
        opened_before: Instant,
        checked: Instant,
    ) -> PooledConnection {
        PooledConnection {
            connection,
            opened_before,
            checked,
            pool: self.clone(),
        }
    }
}

impl From<Db> for StatementPool {
    fn from(db: Db) -> Self {
        Self::with_one_plan(db)
    }
}

impl PooledConnection {
    /// Begins a transaction. A pooler may take as long to answer as the pool may take to find a connection.
    async fn begin(mut self, begin: Arc<str>) -> Result<Self, sqlx::Error> {
        let longest: Duration = self.pool.db.options().get_acquire_timeout();
        let started = sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *self.connection);
        if let Ok(answer) = tokio::time::timeout(longest, started).await {
            return answer.map(|_| self);
        }
        drop(self.connection.detach());
        Err(no_answer())
    }

    /// Commits, or rolls back what a failed statement did.
    async fn end_transaction(&mut self, succeeded: bool) -> Result<(), sqlx::Error> {
        let end = if succeeded { "commit" } else { "rollback" };
        match sqlx::raw_sql(end).execute(&mut *self.connection).await {
            // A pooler that loses the server during a commit answers with an error of its own. As an I/O error it says that
            // the outcome is unknown.
            Err(error) if succeeded => Err(std::io::Error::other(error).into()),
            // The caller gets the statement's own error. If the rollback failed too, the pool closes the connection.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Keeps the connection for the next statement. Its own statement must have been answered in full.
    pub fn give_back(self) {
        let most = self.pool.db.options().get_max_connections() as usize / PART;
        let mut idle = self.pool.idle.lock().expect("no panic holds it");
        if idle.len() < most {
            idle.push(IdleConnection {
                connection: self.connection,
                opened_before: self.opened_before,
                checked: self.checked,
                since: Instant::now(),
            });
        }
    }
}

impl Deref for PooledConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
