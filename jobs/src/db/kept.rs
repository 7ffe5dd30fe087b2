use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, pool::PoolConnection};

use super::{ASKED_AFTER, PATIENCE, answered, no_answer, pooler};

/// Such a part of the pool's connections may be kept, rounded down: a process may keep two parts (the API has a reader by
/// keys too), and the rest is for everybody.
const PART: usize = 3;

/// Connections that go from statement to statement without a visit to the pool: it rolls back and pings each one that it
/// gets back, which were two more round trips a statement (10 a job, together 2 ms of CPU of the 13 beside inference).
///
/// One is kept if its statement went well. It goes the pool's way after an error, and when the future that held it was
/// dropped in the middle.
///
/// Behind a pooler a connection of Postgres is ours for a transaction alone: there each statement is one, and has its settings
/// in it.
#[derive(Debug, Clone)]
pub struct Kept {
    pool: PgPool,
    idle: Arc<Mutex<Vec<Idle>>>,
    /// Of a connection that came from the pool, which takes them back.
    settings: &'static str,
    /// Behind a pooler: what opens a transaction that has them.
    begin: Option<Arc<str>>,
}

/// And since when.
type Idle = (PoolConnection<Postgres>, Instant);

/// A connection for one statement.
#[derive(Debug)]
pub struct Lent {
    connection: PoolConnection<Postgres>,
    kept: Kept,
}

impl Kept {
    /// A table that was empty when the plan was made is cheapest read as a whole: it may not be.
    pub const ONE_PLAN: &str = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off";
    /// Nor may any be read to be hashed or sorted.
    pub const BY_KEYS: &str = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
        set enable_hashjoin = off; set enable_mergejoin = off";

    /// For statements that have one sensible plan, whatever the statistics say: it is made once. `plans.rs` of the tests
    /// looks at each.
    ///
    /// They take arrays. To Postgres a plan for the values at hand always looks cheaper than one for any, so that it
    /// planned each submit for 1.1 ms to run it in 0.7.
    pub fn with_one_plan(pool: PgPool) -> Self {
        Self::new(pool, Self::ONE_PLAN)
    }

    /// The same for statements that look rows up by their keys and do nothing else.
    pub fn by_keys(pool: PgPool) -> Self {
        Self::new(pool, Self::BY_KEYS)
    }

    fn new(pool: PgPool, settings: &'static str) -> Self {
        let local = || settings.replace("set ", "set local ");
        Self {
            begin: pooler::is_before(&pool).then(|| format!("begin; {}", local()).into()),
            pool,
            idle: Arc::default(),
            settings,
        }
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Runs one statement, with an end to it: [`answered`].
    ///
    /// # Errors
    /// Those of `statement`; [`sqlx::Error::Io`] without an answer: it is not known whether it was executed.
    pub async fn run<T, E: From<sqlx::Error>>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        answered(&self.pool, async {
            let mut connection = self.take().await?;
            if let Some(begin) = &self.begin {
                connection = Box::pin(connection.begun(begin.clone())).await?;
            }
            let answer = statement(&mut connection).await;
            if self.begin.is_some() {
                Box::pin(connection.end(answer.is_ok())).await?;
            }
            let answer = answer?;
            connection.give_back();
            Ok(answer)
        })
        .await
    }

    /// To be given back by [`Lent::give_back`]. Behind a pooler it comes without its settings, which only [`run`](Self::run)
    /// can give it.
    ///
    /// # Errors
    /// Postgres is away, or the pool has none to spare.
    pub async fn take(&self) -> Result<Lent, sqlx::Error> {
        while let Some((mut connection, since)) = self.last_used() {
            if since.elapsed() < ASKED_AFTER {
                return Ok(self.lend(connection));
            }
            match tokio::time::timeout(self.patience(), connection.ping()).await {
                Ok(Ok(())) => return Ok(self.lend(connection)),
                // Nobody waits for a connection that leads nowhere.
                _ => drop(connection.detach()),
            }
        }
        // Boxed: it is seldom that way.
        Box::pin(self.out_of_the_pool()).await
    }

    /// A pooler answers when it has a connection of Postgres to spare.
    fn patience(&self) -> Duration {
        match self.begin {
            Some(_) => self.pool.options().get_acquire_timeout(),
            None => PATIENCE,
        }
    }

    /// The pool hands out what was used a moment ago as it is: it may lead nowhere, and the first to ask finds out.
    async fn out_of_the_pool(&self) -> Result<Lent, sqlx::Error> {
        let until = Instant::now() + self.pool.options().get_acquire_timeout();
        loop {
            let mut connection = self.pool.acquire().await?;
            if self.begin.is_some() {
                return Ok(self.lend(connection)); // `begun` finds out
            }
            let set = sqlx::raw_sql(self.settings).execute(&mut *connection);
            match tokio::time::timeout(PATIENCE, set).await {
                Ok(set) => return set.map(|_| self.lend(connection)),
                Err(_) => drop(connection.detach()),
            }
            if Instant::now() > until {
                return Err(no_answer());
            }
        }
    }

    /// The warmest one, so that what is not needed grows cold.
    fn last_used(&self) -> Option<Idle> {
        self.idle.lock().expect("no panic holds it").pop()
    }

    fn lend(&self, connection: PoolConnection<Postgres>) -> Lent {
        Lent {
            connection,
            kept: self.clone(),
        }
    }
}

impl From<PgPool> for Kept {
    fn from(pool: PgPool) -> Self {
        Self::with_one_plan(pool)
    }
}

impl Lent {
    /// In a transaction, for which a pooler may keep us waiting as long as the pool may.
    async fn begun(mut self, begin: Arc<str>) -> Result<Self, sqlx::Error> {
        let longest = self.kept.pool.options().get_acquire_timeout();
        let answer = sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *self.connection);
        if let Ok(answer) = tokio::time::timeout(longest, answer).await {
            return answer.map(|_| self);
        }
        drop(self.connection.detach());
        Err(no_answer())
    }

    /// Commits, or takes back what a statement did that failed.
    async fn end(&mut self, is_well: bool) -> Result<(), sqlx::Error> {
        let how = if is_well { "commit" } else { "rollback" };
        match sqlx::raw_sql(how).execute(&mut *self.connection).await {
            // A pooler that lost the server amid a commit says so in an answer of its own, which decides nothing.
            Err(error) if is_well => Err(std::io::Error::other(error).into()),
            // Of a statement that failed, its own error is told; where this failed as well, the pool closes the connection.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// After its statement has been answered in full.
    pub fn give_back(self) {
        let most = self.kept.pool.options().get_max_connections() as usize / PART;
        let mut idle = self.kept.idle.lock().expect("no panic holds it");
        if idle.len() < most {
            idle.push((self.connection, Instant::now()));
        }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
