//! What this process tells the audit about keys. Refusals are counted and written as a few rows at a time, because a caller
//! without a key must not be able to write a row for each request.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use jobs::{
    audit::{self, Act},
    db::{Db, answered},
    keys::{self, RefusedKey, Scope, WhyRefused},
};
use moka::sync::Cache;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::keyring::Caller;
use crate::config::AuditConfig;

/// Most rows that one interval writes. Further refusals are counted as those of a key that is not named.
const ROWS_MAX: usize = 32;
/// Most addresses that one row names.
const ADDRESSES_MAX: usize = 8;
/// A key's use is written at most once in this time, and so is a read of a secret.
const ONCE_IN: Duration = Duration::from_mins(1);
const KEYS_MAX: u64 = 10_000;
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Counts refusals and notes uses of keys in memory; [`AccessLog::write_until_shutdown`] writes both.
#[derive(Debug)]
pub(crate) struct AccessLog {
    db: Db,
    noted: Mutex<Noted>,
    /// Ids of keys whose use was noted in the last minute.
    used_lately: Cache<String, ()>,
    /// Ids of keys that read a secret in the last minute.
    secret_read_lately: Cache<String, ()>,
}

/// What was noted since the last write.
#[derive(Debug, Default)]
struct Noted {
    since: Option<Instant>,
    refusals: BTreeMap<Refusal, Tally>,
    used: BTreeSet<String>,
}

/// Refusals that share a row of the audit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    Key(RefusedKey),
    Scope {
        actor: String,
        key_id: String,
        scope: &'static str,
    },
    /// Of keys that found no room in this interval.
    Others,
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    addresses: BTreeSet<IpAddr>,
}

impl AccessLog {
    pub fn new(db: Db) -> Self {
        let lately = || {
            Cache::builder()
                .max_capacity(KEYS_MAX)
                .time_to_live(ONCE_IN)
                .build()
        };
        Self {
            db,
            noted: Mutex::default(),
            used_lately: lately(),
            secret_read_lately: lately(),
        }
    }

    /// Counts a login with a key that is not valid.
    pub fn note_refused_key(&self, refused: RefusedKey, address: Option<IpAddr>) {
        self.noted().count(Refusal::Key(refused), address);
    }

    /// Counts a request beyond the scopes of its key.
    pub fn note_refused_scope(&self, caller: &Caller, scope: Scope) {
        let refusal = Refusal::Scope {
            actor: caller.audit_name(),
            key_id: caller.key_id.clone(),
            scope: scope.as_str(),
        };
        self.noted().count(refusal, None);
    }

    /// Notes that a key was just read from Postgres for a request.
    pub fn note_use(&self, key_id: &str) {
        if self.used_lately.contains_key(key_id) {
            return;
        }
        self.used_lately.insert(key_id.to_owned(), ());
        self.noted().used.insert(key_id.to_owned());
    }

    /// Writes that the caller reads its owner's secret, before the secret is shown. Reads by this key within a minute are one row.
    ///
    /// # Errors
    /// Postgres is away: the secret must not be shown.
    pub async fn record_secret_read(&self, caller: &Caller) -> Result<(), sqlx::Error> {
        if self.secret_read_lately.contains_key(&*caller.key_id) {
            return Ok(());
        }
        let read = caller.act(
            "read_webhook_secret",
            caller.owner.clone(),
            json!({}),
            "read",
        );
        audit::record(&self.db, &[read]).await?;
        self.secret_read_lately.insert(caller.key_id.clone(), ());
        Ok(())
    }

    /// Writes what was noted, at each interval and once more after the shutdown signal. Prunes the audit once an hour.
    pub async fn write_until_shutdown(&self, config: &AuditConfig, shutdown: &CancellationToken) {
        let interval = Duration::from_secs(config.audit_seconds);
        let mut pruned_at = None::<Instant>;
        loop {
            let pause = tokio::time::sleep(interval);
            let is_last = shutdown.run_until_cancelled(pause).await.is_none();
            if !is_last && pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
                pruned_at = Some(Instant::now());
                let pruned = audit::prune(&self.db, config.audit_retain_days);
                if let Err(error) = answered(&self.db, pruned).await {
                    tracing::warn!(error.cause = %error, "the audit could not be pruned");
                }
            }
            if let Err(error) = self.write().await {
                tracing::warn!(error.cause = %error, "refused logins and uses of keys could not be written; they are kept");
            }
            if is_last {
                return;
            }
        }
    }

    /// Writes what was noted. After an error all that may not be written stays noted.
    async fn write(&self) -> Result<(), sqlx::Error> {
        let mut taken = std::mem::take(&mut *self.noted());
        let written = answered(&self.db, self.write_noted(&mut taken)).await;
        if written.is_err() {
            self.noted().add(taken);
        }
        written
    }

    async fn write_noted(&self, noted: &mut Noted) -> Result<(), sqlx::Error> {
        let used: Vec<_> = noted.used.iter().cloned().collect();
        if !used.is_empty() {
            keys::note_uses(&self.db, &used).await?;
            noted.used.clear();
        }
        let acts = noted.acts();
        if acts.is_empty() {
            return Ok(());
        }
        audit::record(&self.db, &acts).await
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().expect("no panic holds it")
    }
}

impl Noted {
    fn count(&mut self, refusal: Refusal, address: Option<IpAddr>) {
        self.since.get_or_insert_with(Instant::now);
        let has_room = self.refusals.len() < ROWS_MAX - 1 || self.refusals.contains_key(&refusal);
        let refusal = if has_room { refusal } else { Refusal::Others };
        let tally = self.refusals.entry(refusal).or_default();
        tally.count += 1;
        if let Some(address) = address
            && tally.addresses.len() < ADDRESSES_MAX
        {
            tally.addresses.insert(address);
        }
    }

    /// Adds what could not be written.
    fn add(&mut self, earlier: Self) {
        self.since = earlier.since.or(self.since);
        self.used.extend(earlier.used);
        for (refusal, tally) in earlier.refusals {
            let has_room =
                self.refusals.len() < ROWS_MAX - 1 || self.refusals.contains_key(&refusal);
            let refusal = if has_room { refusal } else { Refusal::Others };
            let sum = self.refusals.entry(refusal).or_default();
            sum.count += tally.count;
            sum.addresses.extend(tally.addresses);
            while sum.addresses.len() > ADDRESSES_MAX {
                sum.addresses.pop_last();
            }
        }
    }

    fn acts(&self) -> Vec<Act> {
        let seconds = self.since.map_or(0, |since| since.elapsed().as_secs() + 1);
        let acts = self.refusals.iter().map(|(refusal, tally)| {
            let (verb, subject, why) = match refusal {
                Refusal::Key(RefusedKey { key_id, why }) => {
                    let verb = match why {
                        WhyRefused::UnknownKey | WhyRefused::WrongSecret => "failed_login",
                        WhyRefused::Revoked | WhyRefused::Expired => "refused_login",
                    };
                    (verb, key_id.as_deref().unwrap_or("unknown"), why.as_str())
                }
                Refusal::Scope { key_id, scope, .. } => ("refused_scope", key_id.as_str(), *scope),
                Refusal::Others => ("failed_login", "others", "too_many_to_name"),
            };
            let actor = match refusal {
                Refusal::Scope { actor, .. } => actor.clone(),
                Refusal::Key(_) | Refusal::Others => "unknown".to_owned(),
            };
            Act {
                actor: Some(actor),
                verb,
                subject: subject.to_owned(),
                arguments: json!({
                    "why": why, "count": tally.count, "seconds": seconds, "addresses": tally.addresses,
                }),
                outcome: "refused",
            }
        });
        acts.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use jobs::keys::{RefusedKey, WhyRefused};

    use super::{ADDRESSES_MAX, Noted, ROWS_MAX, Refusal};

    fn refused(key_id: Option<String>, why: WhyRefused) -> Refusal {
        Refusal::Key(RefusedKey { key_id, why })
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn any_number_of_refusals_is_a_bounded_number_of_rows() {
        let mut noted = Noted::default();
        for number in 0..10_000 {
            noted.count(refused(None, WhyRefused::UnknownKey), Some(address(number)));
            let key_id = Some(format!("key{}", number % 1_000));
            noted.count(refused(key_id, WhyRefused::Revoked), Some(address(number)));
        }
        let acts = noted.acts();
        assert_eq!(acts.len(), ROWS_MAX);
        let sum = acts.iter().map(|act| act.arguments["count"].as_u64());
        assert_eq!(sum.sum::<Option<u64>>(), Some(20_000));
        let unknown = acts.iter().find(|act| act.subject == "unknown");
        let unknown = unknown.expect("counted first");
        assert_eq!(unknown.arguments["count"], 10_000);
        let addresses = unknown.arguments["addresses"].as_array();
        assert_eq!(addresses.map(Vec::len), Some(ADDRESSES_MAX));
    }

    #[test]
    fn what_could_not_be_written_is_counted_with_the_next_interval() {
        let (mut earlier, mut noted) = (Noted::default(), Noted::default());
        let wrong = || refused(Some("one".into()), WhyRefused::WrongSecret);
        earlier.count(wrong(), Some(address(1)));
        earlier.used.insert("two".into());
        noted.count(wrong(), Some(address(2)));
        noted.add(earlier);
        let [act] = &noted.acts()[..] else {
            panic!("one row: {:?}", noted.acts())
        };
        assert_eq!((act.verb, act.subject.as_str()), ("failed_login", "one"));
        assert_eq!(act.arguments["count"], 2);
        assert!(noted.used.contains("two"));
    }
}
