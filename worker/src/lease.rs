//! The worker's lease: registering, renewing it, and what becomes of the jobs in hand when it is lost.
//!
//! No decision here uses a clock of this machine against one of Postgres: the lease runs by the database's clock, and the
//! only local measure is how long ago it was last renewed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::{
    JobId, WorkerId,
    queue::{self, Lease, QueueError, Registration},
};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::drain::{Drain, Phase};

/// Whether work on a job is still wanted, asked at every stage boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    Wanted,
    /// Its client wants it canceled: releasing it ends it.
    Canceled,
    /// It is another's by now, or the worker's lease is gone: nothing may be written.
    Lost,
}

/// One job in hand.
#[derive(Debug)]
pub struct Holding {
    pub lease: Lease,
    standing: AtomicU8,
}

impl Holding {
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Wanted,
            1 => Standing::Canceled,
            _ => Standing::Lost,
        }
    }

    fn becomes(&self, standing: Standing) {
        self.standing.fetch_max(standing as u8, Ordering::AcqRel);
    }
}

#[derive(Debug, Default)]
struct Hand {
    worker: Option<WorkerId>,
    jobs: HashMap<JobId, Arc<Holding>>,
}

/// All jobs in hand, and the registration that they were claimed under.
#[derive(Debug)]
pub struct Holdings {
    hand: Mutex<Hand>,
    worker: watch::Sender<Option<WorkerId>>,
}

impl Default for Holdings {
    fn default() -> Self {
        Self {
            hand: Mutex::default(),
            worker: watch::Sender::new(None),
        }
    }
}

impl Holdings {
    fn hand(&self) -> std::sync::MutexGuard<'_, Hand> {
        self.hand.lock().expect("no panic while it is held")
    }

    /// The live registration, as it comes and goes.
    pub fn worker(&self) -> watch::Receiver<Option<WorkerId>> {
        self.worker.subscribe()
    }

    /// Takes a fresh claim into hand. One that comes back after its registration ended is lost already.
    pub fn take(&self, worker: WorkerId, lease: Lease) -> Arc<Holding> {
        let mut hand = self.hand();
        let holding = Arc::new(Holding {
            lease,
            standing: AtomicU8::new(0),
        });
        if hand.worker == Some(worker) {
            hand.jobs.insert(lease.job_id, holding.clone());
        } else {
            holding.becomes(Standing::Lost);
        }
        holding
    }

    /// Lets go of a job whose outcome is written, or void.
    pub fn drop_job(&self, holding: &Arc<Holding>) {
        let mut hand = self.hand();
        // The same job may have been claimed anew by now.
        if hand
            .jobs
            .get(&holding.lease.job_id)
            .is_some_and(|held| Arc::ptr_eq(held, holding))
        {
            hand.jobs.remove(&holding.lease.job_id);
        }
    }

    pub fn len(&self) -> usize {
        self.hand().jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn all(&self) -> Vec<Arc<Holding>> {
        self.hand().jobs.values().cloned().collect()
    }

    fn registered(&self, worker: Option<WorkerId>) {
        let mut hand = self.hand();
        hand.worker = worker;
        for (_, holding) in hand.jobs.drain() {
            holding.becomes(Standing::Lost);
        }
        self.worker.send_replace(worker);
    }
}

/// Keeps a lease for as long as the worker works: registers, renews, and registers anew under a new id after a loss.
pub async fn keep(
    db: PgPool,
    registration: Registration,
    lease: Duration,
    holdings: Arc<Holdings>,
    drain: Drain,
) {
    while drain.phase() < Phase::Leaving {
        let Some(worker) = register(&db, &registration, lease, &drain).await else {
            return;
        };
        holdings.registered(Some(worker));
        tracing::info!(worker.id = %worker, worker.name = registration.name, device = registration.device, "registered");
        renew_until_lost(&db, worker, lease, &holdings, &drain).await;
        tracing::warn!(worker.id = %worker, jobs.lost = holdings.len(), "lease lost: all work stops");
        metrics::counter!("darkroom_leases_lost_total").increment(1);
        holdings.registered(None);
        if drain.is_draining() {
            return;
        }
    }
}

/// Registers, however long Postgres is away; gives up only when the worker drains.
async fn register(
    db: &PgPool,
    registration: &Registration,
    lease: Duration,
    drain: &Drain,
) -> Option<WorkerId> {
    let mut pause = Duration::from_millis(100);
    while !drain.is_draining() {
        match queue::register(db, registration, lease.as_secs_f64()).await {
            Ok(worker) => return Some(worker),
            Err(error) => tracing::warn!(error.cause = %error, "cannot register; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(jitter(pause)) => {}
            () = drain.reached(Phase::Draining) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    None
}

async fn renew_until_lost(
    db: &PgPool,
    worker: WorkerId,
    lease: Duration,
    holdings: &Holdings,
    drain: &Drain,
) {
    let mut renewed_at = Instant::now();
    let mut pause = lease / 3;
    loop {
        tokio::time::sleep(pause).await;
        // What is in hand before the statement begins is what its answer can speak about.
        let (asked_at, before) = (Instant::now(), holdings.all());
        let beat = queue::heartbeat(db, worker, lease.as_secs_f64());
        // Never later than the lease's end: a connection that hangs is as good as none.
        let left = lease.saturating_sub(renewed_at.elapsed());
        let beat = tokio::time::timeout(left, beat).await;
        match beat {
            Ok(Ok(beat)) => {
                (renewed_at, pause) = (asked_at, lease / 3);
                for holding in &before {
                    if beat.canceled.contains(&holding.lease.job_id) {
                        holding.becomes(Standing::Canceled);
                    } else if !beat.held.contains(&holding.lease.job_id) {
                        holding.becomes(Standing::Lost);
                    }
                }
                if beat.draining {
                    drain.advance(Phase::Draining, "an operator asked for it");
                }
            }
            Ok(Err(QueueError::LeaseLost)) => return,
            Ok(Err(error)) => {
                tracing::warn!(worker.id = %worker, error.cause = %error, "lease not renewed; trying again");
                pause = jitter((lease / 15).min(Duration::from_secs(1)));
            }
            Err(_) => pause = Duration::ZERO,
        }
        if renewed_at.elapsed() >= lease {
            return;
        }
    }
}

/// Gives back whatever is in hand and ends the registration: the last thing a worker does.
pub async fn leave(db: &PgPool, holdings: &Holdings) {
    let worker = *holdings.worker().borrow();
    let Some(worker) = worker else { return };
    let leases: Vec<Lease> = holdings.all().iter().map(|job| job.lease).collect();
    let goodbye = async {
        if !leases.is_empty() {
            queue::release(db, &leases).await?;
            tracing::info!(worker.id = %worker, jobs.released = leases.len(), "released what was in hand");
        }
        queue::deregister(db, worker).await
    };
    match tokio::time::timeout(Duration::from_secs(3), goodbye).await {
        Ok(Ok(())) => tracing::info!(worker.id = %worker, "deregistered"),
        Ok(Err(error)) => {
            tracing::warn!(worker.id = %worker, error.cause = %error, "not deregistered: the lease runs out by itself");
        }
        Err(_) => {
            tracing::warn!(worker.id = %worker, "not deregistered in time: the lease runs out by itself");
        }
    }
}

/// Between three quarters and five quarters of it: workers that were woken together do not stay together.
pub fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use jobs::{JobId, LeaseNo, WorkerId, queue::Lease};

    use super::{Holdings, Standing};

    fn lease() -> Lease {
        Lease {
            job_id: JobId::now(),
            lease_no: LeaseNo(1),
        }
    }

    #[test]
    fn a_lost_registration_takes_all_jobs_along() {
        let holdings = Holdings::default();
        holdings.registered(Some(WorkerId(1)));
        let job = holdings.take(WorkerId(1), lease());
        assert_eq!(job.standing(), Standing::Wanted);
        holdings.registered(None);
        assert_eq!(
            (job.standing(), holdings.is_empty()),
            (Standing::Lost, true)
        );
    }

    #[test]
    fn a_claim_that_comes_back_late_is_lost_at_once() {
        let holdings = Holdings::default();
        holdings.registered(Some(WorkerId(2)));
        assert_eq!(
            holdings.take(WorkerId(1), lease()).standing(),
            Standing::Lost
        );
    }

    #[test]
    fn a_job_claimed_anew_outlives_its_old_holding() {
        let (holdings, lease) = (Holdings::default(), lease());
        holdings.registered(Some(WorkerId(1)));
        let old = holdings.take(WorkerId(1), lease);
        let new = holdings.take(WorkerId(1), lease);
        holdings.drop_job(&old);
        assert_eq!(holdings.len(), 1);
        holdings.drop_job(&new);
        assert!(holdings.is_empty());
    }
}
