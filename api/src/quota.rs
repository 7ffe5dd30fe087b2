//! Caps on what an owner has queued and stored. The database is asked in the background, at most once a second for each
//! owner that submits; in between, this process adds what it has let in itself.

mod tally;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jobs::{ProblemCode, db::Db};

pub(crate) use self::tally::Reserved;
use self::tally::{Full, Tally, What};
use crate::{auth::Caller, error::ApiError, pace::Pace};

/// Owners remembered at once; past it the memory starts anew.
const REMEMBERED_MAX: usize = 10_000;
/// Images go by their retention, which takes hours at least: a full store is not worth a quick second try.
const STORE_RETRY_AFTER_SECONDS: u32 = 60;

/// What every owner that submits here has in use.
#[derive(Debug)]
pub(crate) struct Quotas {
    db: Db,
    pace: Arc<Pace>,
    owners: Mutex<HashMap<String, Account>>,
}

/// What one owner has in use.
#[derive(Debug, Clone)]
struct Account {
    jobs: Arc<Tally>,
    bytes: Arc<Tally>,
}

impl Quotas {
    pub fn new(db: Db, pace: Arc<Pace>) -> Self {
        Self {
            db,
            pace,
            owners: Mutex::default(),
        }
    }

    /// Lets in so many jobs of the caller's owner, before their bodies are read; refuses what would pass the cap.
    pub async fn admit(&self, caller: &Caller, jobs: i64) -> Result<Option<Reserved>, ApiError> {
        let max = caller.queued_jobs_max();
        if max == 0 {
            return Ok(None);
        }
        let account = self.account(&caller.owner);
        let reserved = account.jobs.reserve(jobs, max);
        Ok(Some(reserved.await?.map_err(|full: Full| {
            let detail = format!(
                "your jobs that have not ended are {} already, and may be {max}: wait for some of them",
                full.used
            );
            ApiError::new(ProblemCode::QuotaExceeded, detail).retry_after(self.pace.any_retry_after_seconds())
        })?))
    }

    /// Lets in a new image of the caller's owner, before it is stored; refuses what would pass the cap.
    pub async fn store(&self, caller: &Caller, bytes: i64) -> Result<Option<Reserved>, ApiError> {
        let max = caller.stored_bytes_max();
        if max == 0 {
            return Ok(None);
        }
        let account = self.account(&caller.owner);
        let reserved = account.bytes.reserve(bytes, max);
        Ok(Some(reserved.await?.map_err(|full: Full| {
            let detail = format!(
                "your stored images have {} bytes, with this one it would be more than {max}: delete jobs that you need no more",
                full.used
            );
            ApiError::new(ProblemCode::QuotaExceeded, detail)
                .retry_after(STORE_RETRY_AFTER_SECONDS)
        })?))
    }

    fn account(&self, owner: &str) -> Account {
        let mut owners = self.owners.lock().expect("no panic holds it");
        if let Some(account) = owners.get(owner) {
            return account.clone();
        }
        if owners.len() >= REMEMBERED_MAX {
            owners.clear();
        }
        let account = Account {
            jobs: Tally::new(self.db.clone(), owner, What::Jobs),
            bytes: Tally::new(self.db.clone(), owner, What::Bytes),
        };
        owners.insert(owner.to_owned(), account.clone());
        account
    }
}
