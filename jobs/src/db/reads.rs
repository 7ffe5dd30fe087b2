use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Args;
use sqlx::PgConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Db, DbConfig, StatementPool};

/// Owners without a read are forgotten when more than this number is known.
const OWNERS_KEPT: usize = 1_000;

/// Limits of reads that look at many rows.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct ReadsConfig {
    /// Most connections for reads that look at many rows: lists, counts of batches, usage and statistics
    ///
    /// They come on top of `--db-connections-max`. Submits, look-ups by id and API keys never wait for one of these reads.
    #[arg(long, env = "DARKROOM_DB_READ_CONNECTIONS_MAX", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub db_read_connections_max: u32,
    /// Most of these reads that one owner may run at once; further reads of the owner wait
    ///
    /// Less than the connections, so that one owner leaves some to all others.
    #[arg(long, env = "DARKROOM_DB_READS_PER_OWNER_MAX", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub db_reads_per_owner_max: u32,
    /// Longest time of the statement of such a read, in milliseconds
    #[arg(long, env = "DARKROOM_DB_READ_TIMEOUT_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub db_read_timeout_ms: u64,
}

/// Connections for reads that look at many rows, beside the pool of everything else. Cheap to clone.
///
/// Each owner has a share of the connections, and each statement a short time.
#[derive(Debug, Clone)]
pub struct Reads {
    statements: StatementPool,
    pages: StatementPool,
    owners: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    per_owner_max: usize,
    /// How long a read waits for its turn, and again for a connection.
    acquire_timeout: Duration,
}

impl Reads {
    /// Makes the pool. Connections are opened on demand, so this succeeds without a server.
    ///
    /// # Errors
    /// A URL cannot be read, or has settings that a pooler would refuse.
    pub fn connect(
        config: &DbConfig,
        reads: &ReadsConfig,
        application: &str,
    ) -> Result<Self, sqlx::Error> {
        let config = DbConfig {
            db_connections_max: reads.db_read_connections_max,
            db_statement_timeout_ms: reads.db_read_timeout_ms,
            ..config.clone()
        };
        let db = Db::connect(&config, application)?;
        let acquire_timeout = Duration::from_millis(config.db_acquire_timeout_ms);
        Ok(Self::new(
            db,
            reads.db_reads_per_owner_max as usize,
            acquire_timeout,
        ))
    }

    fn new(db: Db, per_owner_max: usize, acquire_timeout: Duration) -> Self {
        Self {
            pages: StatementPool::in_order(db.clone()),
            statements: StatementPool::for_reads(db),
            owners: Arc::default(),
            per_owner_max,
            acquire_timeout,
        }
    }

    /// Runs a read for `owner` once the owner has fewer reads than it may.
    ///
    /// # Errors
    /// Those of `read`; [`sqlx::Error::PoolTimedOut`] if there was no turn or no connection in time.
    pub async fn run<T, E: From<sqlx::Error> + Error + 'static>(
        &self,
        owner: &str,
        read: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let _turn = self.turn(owner).await?;
        self.statements.run(read).await
    }

    /// As [`run`](Self::run), for a page of a list: Postgres reads rows in the order of an index, and sorts none.
    ///
    /// # Errors
    /// As those of [`run`](Self::run).
    pub async fn page<T, E: From<sqlx::Error> + Error + 'static>(
        &self,
        owner: &str,
        read: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let _turn = self.turn(owner).await?;
        self.pages.run(read).await
    }

    async fn turn(&self, owner: &str) -> Result<OwnedSemaphorePermit, sqlx::Error> {
        let turn = self.turns_of(owner).acquire_owned();
        let turn = tokio::time::timeout(self.acquire_timeout, turn).await;
        let turn = turn.map_err(|_| sqlx::Error::PoolTimedOut)?;
        turn.map_err(|_| sqlx::Error::PoolClosed)
    }

    fn turns_of(&self, owner: &str) -> Arc<Semaphore> {
        let mut owners = self.owners.lock().expect("no panic holds it");
        if owners.len() > OWNERS_KEPT {
            // A turn holds its semaphore.
            owners.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        if let Some(turns) = owners.get(owner) {
            return turns.clone();
        }
        let turns = Arc::new(Semaphore::new(self.per_owner_max));
        owners.insert(owner.to_owned(), turns.clone());
        turns
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::{
        super::{
            Db,
            tests::{POSTGRES, config},
        },
        OWNERS_KEPT, Reads,
    };

    fn reads(per_owner_max: usize, acquire_timeout: Duration) -> Reads {
        let db = Db::connect(&config(POSTGRES, None), "test").expect("good URLs");
        Reads::new(db, per_owner_max, acquire_timeout)
    }

    #[tokio::test]
    async fn an_owner_with_all_its_reads_waits_and_others_do_not() {
        let reads = reads(2, Duration::from_mins(1));
        let first = reads.turn("alice").await.expect("a turn");
        let _second = reads.turn("alice").await.expect("a turn");
        let mut third = Box::pin(reads.turn("alice"));
        assert!((&mut third).now_or_never().is_none(), "no third turn");
        assert!(reads.turn("bob").now_or_never().is_some());
        drop(first);
        drop(third.await.expect("the turn of the first read"));
    }

    #[tokio::test]
    async fn a_read_without_a_turn_fails_in_time() {
        let reads = reads(1, Duration::ZERO);
        let _turn = reads.turn("alice").await.expect("a turn");
        let refused = reads.turn("alice").await;
        assert!(matches!(refused, Err(sqlx::Error::PoolTimedOut)));
    }

    #[tokio::test]
    async fn owners_that_do_not_read_are_forgotten() {
        let reads = reads(1, Duration::from_secs(5));
        let _turn = reads.turn("alice").await.expect("a turn");
        for owner in 0..=OWNERS_KEPT {
            drop(reads.turn(&owner.to_string()).await.expect("a turn"));
        }
        assert!(reads.owners.lock().expect("no panic").len() < OWNERS_KEPT);
        assert!(
            reads.turn("alice").now_or_never().is_none(),
            "alice still has its turn"
        );
    }
}
