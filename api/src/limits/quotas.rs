//! Quotas of owners: unended jobs and stored bytes.
//!
//! Postgres counts in the background, at most once a second for each owner that submits. Between two counts, this process adds
//! what it has accepted itself.

mod tally;

use jobs::db::Db;
use std::sync::Arc;

use jobs::ProblemCode;
use moka::{policy::EvictionPolicy, sync::Cache};

pub(crate) use self::tally::Reservation;
use self::tally::{Counted, Exceeded, Tally};
use super::{keyring::Caller, retry_after::RetryAfter};
use crate::http::error::ApiError;

const OWNERS_MAX: u64 = 10_000;
/// Images are deleted after hours at least: a client with a full store gains nothing from a quick retry.
const STORE_RETRY_AFTER_SECONDS: u32 = 60;

/// What each owner that submits to this process has in use.
#[derive(Debug)]
pub(crate) struct Quotas {
    db: Db,
    retry_after: Arc<RetryAfter>,
    owners: Cache<String, Account>,
}

/// What one owner has in use.
#[derive(Debug, Clone)]
struct Account {
    jobs: Arc<Tally>,
    bytes: Arc<Tally>,
}

impl Quotas {
    pub fn new(db: Db, retry_after: Arc<RetryAfter>) -> Self {
        Self {
            db,
            retry_after,
            owners: Cache::builder()
                .max_capacity(OWNERS_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
        }
    }

    /// Reserves room for this many jobs, before their bodies are read; `None` without a quota.
    ///
    /// # Errors
    /// `quota_exceeded`: the owner has too many unended jobs.
    pub async fn reserve_jobs(
        &self,
        caller: &Caller,
        jobs: i64,
    ) -> Result<Option<Reservation>, ApiError> {
        let max = caller.queued_jobs_max();
        if max == 0 {
            return Ok(None);
        }
        let account = self.account(&caller.owner);
        let reserved = account.jobs.reserve(jobs, max);
        Ok(Some(reserved.await?.map_err(|exceeded: Exceeded| {
            let detail = format!(
                "your jobs that have not ended are {} already, and may be {max}: wait for some of them",
                exceeded.used
            );
            ApiError::new(ProblemCode::QuotaExceeded, detail).retry_after(self.retry_after.seconds_of_any_job())
        })?))
    }

    /// Reserves room for an image, before it is stored; `None` without a quota.
    ///
    /// # Errors
    /// `quota_exceeded`: the owner stores too many bytes.
    pub async fn reserve_bytes(
        &self,
        caller: &Caller,
        bytes: i64,
    ) -> Result<Option<Reservation>, ApiError> {
        let max = caller.stored_bytes_max();
        if max == 0 {
            return Ok(None);
        }
        let account = self.account(&caller.owner);
        let reserved = account.bytes.reserve(bytes, max);
        Ok(Some(reserved.await?.map_err(|exceeded: Exceeded| {
            let detail = format!(
                "your stored images have {} bytes, with this one it would be more than {max}: delete jobs that you need no more",
                exceeded.used
            );
            ApiError::new(ProblemCode::QuotaExceeded, detail)
                .retry_after(STORE_RETRY_AFTER_SECONDS)
        })?))
    }

    fn account(&self, owner: &str) -> Account {
        self.owners.get_with_by_ref(owner, || Account {
            jobs: Tally::new(self.db.clone(), owner, Counted::Jobs),
            bytes: Tally::new(self.db.clone(), owner, Counted::Bytes),
        })
    }
}
