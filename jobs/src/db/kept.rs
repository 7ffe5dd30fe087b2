use std::time::{Duration, Instant};

use sqlx::{Connection, PgPool, Postgres, pool::PoolConnection};

/// After so long without a statement a kept connection is asked whether it still lives.
const TRUSTED: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection that one task keeps from statement to statement: the pool rolls back each one that it gets back, which is
/// one more round trip a statement.
///
/// Take it, run one statement, give it back if that went well; after an error let it go, and the next one is another.
#[derive(Debug)]
pub struct Kept {
    pool: PgPool,
    idle: Option<(PoolConnection<Postgres>, Instant)>,
}

impl Kept {
    pub fn of(pool: PgPool) -> Self {
        Self { pool, idle: None }
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// # Errors
    /// Postgres is away, or the pool has none to spare.
    pub async fn take(&mut self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        if let Some((mut connection, since)) = self.idle.take() {
            if since.elapsed() < TRUSTED {
                return Ok(connection);
            }
            match tokio::time::timeout(PATIENCE, connection.ping()).await {
                Ok(Ok(())) => return Ok(connection),
                // Nobody waits for a connection that leads nowhere.
                _ => drop(connection.detach()),
            }
        }
        self.pool.acquire().await
    }

    pub fn give_back(&mut self, connection: PoolConnection<Postgres>) {
        self.idle = Some((connection, Instant::now()));
    }
}
