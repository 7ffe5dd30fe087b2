//! The jobs in hand: which of them are still wanted here, which go back, and whose outcome is being made.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU8, Ordering},
    },
};

use jobs::{
    JobId, WorkerId,
    queue::{Heartbeat, Lease},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// What becomes of a job in hand, asked at every stage boundary. Only ever grows, but for the first two it is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Standing {
    Wanted,
    /// On the device, or its outcome is being written: too late to give it back.
    Decided,
    /// Given back behind the pipeline's back, since the worker leaves or its client wants it canceled.
    Returned,
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
            1 => Standing::Decided,
            2 => Standing::Returned,
            _ => Standing::Lost,
        }
    }

    /// From here on the outcome is made in this worker; false if the job is not wanted any more.
    pub fn decide(&self) -> bool {
        self.moves(Standing::Wanted, Standing::Decided) || self.standing() == Standing::Decided
    }

    fn moves(&self, from: Standing, to: Standing) -> bool {
        self.standing
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn is_lost(&self) {
        let _ = self.moves(Standing::Wanted, Standing::Lost)
            || self.moves(Standing::Decided, Standing::Lost);
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
    /// Held from before a claim is asked for until its jobs are in hand.
    claiming: Arc<Semaphore>,
    /// Some jobs went back, and their release is to be written.
    returns: Notify,
}

impl Default for Holdings {
    fn default() -> Self {
        Self {
            hand: Mutex::default(),
            worker: watch::Sender::new(None),
            claiming: Arc::new(Semaphore::new(1)),
            returns: Notify::new(),
        }
    }
}

impl Holdings {
    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().expect("no panic while it is held")
    }

    /// The live registration, as it comes and goes.
    pub fn worker(&self) -> watch::Receiver<Option<WorkerId>> {
        self.worker.subscribe()
    }

    /// Leave for one claim, to be kept until its jobs are in hand; `None` once the worker takes no more.
    pub async fn may_claim(&self) -> Option<OwnedSemaphorePermit> {
        self.claiming.clone().acquire_owned().await.ok()
    }

    /// Returns when no claim is under way. Jobs of one that began before are in hand then.
    pub async fn claims_settled(&self) {
        drop(self.claiming.acquire().await);
    }

    /// Takes a fresh claim into hand. One that comes back after its registration ended is lost already.
    pub fn take(&self, worker: WorkerId, lease: Lease) -> Arc<Holding> {
        let mut hand = self.hand();
        let live = hand.worker == Some(worker);
        let standing = if live {
            Standing::Wanted
        } else {
            Standing::Lost
        };
        let holding = Arc::new(Holding {
            lease,
            standing: AtomicU8::new(standing as u8),
        });
        if live {
            hand.jobs.insert(lease.job_id, holding.clone());
        }
        holding
    }

    /// Lets go of a job whose outcome is written, or void. One that goes back stays in hand until that is written.
    pub fn drop_job(&self, holding: &Arc<Holding>) {
        let mut hand = self.hand();
        // The same job may have been claimed anew by now.
        let held = hand.jobs.get(&holding.lease.job_id);
        if held.is_some_and(|held| Arc::ptr_eq(held, holding))
            && holding.standing() != Standing::Returned
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

    /// All in hand at this moment.
    pub fn all(&self) -> Vec<Arc<Holding>> {
        self.hand().jobs.values().cloned().collect()
    }

    /// A registration began or ended; jobs that were held under the one before are lost.
    pub fn registered(&self, worker: Option<WorkerId>) {
        let mut hand = self.hand();
        hand.worker = worker;
        for (_, holding) in hand.jobs.drain() {
            holding.is_lost();
        }
        self.worker.send_replace(worker);
    }

    /// What a heartbeat said about the jobs that were in hand when it was asked.
    pub fn hear(&self, asked_about: &[Arc<Holding>], beat: &Heartbeat) {
        let mut returns = false;
        for holding in asked_about {
            if beat.canceled.contains(&holding.lease.job_id) {
                returns |= holding.moves(Standing::Wanted, Standing::Returned);
            } else if !beat.held.contains(&holding.lease) {
                holding.is_lost();
            }
        }
        if returns {
            self.returns.notify_one();
        }
    }

    /// Leases of this worker that nobody in it knows of, now and at the heartbeat `before`: their claim was committed, and
    /// its answer was lost on the way. Remembers what it saw in `before`.
    pub fn strays(&self, before: &mut HashSet<Lease>, beat: &Heartbeat) -> Vec<Lease> {
        if self.claiming.available_permits() == 0 {
            before.clear(); // their answer may be on its way
            return Vec::new();
        }
        let hand = self.hand();
        let unknown = beat.held.iter().filter(|lease| {
            let held = hand.jobs.get(&lease.job_id);
            held.is_none_or(|held| held.lease != **lease)
        });
        let unknown: HashSet<Lease> = unknown.copied().collect();
        let strays = unknown.intersection(before).copied().collect();
        *before = unknown;
        strays
    }

    /// Gives back all that is not on the device yet.
    pub fn return_all(&self) {
        for holding in self.hand().jobs.values() {
            holding.moves(Standing::Wanted, Standing::Returned);
        }
        self.returns.notify_one();
    }

    /// Returns when jobs went back since the last call.
    pub async fn some_return(&self) {
        self.returns.notified().await;
    }

    /// Jobs that went back and whose release is not written yet.
    pub fn returning(&self) -> Vec<Lease> {
        let hand = self.hand();
        let returning = hand
            .jobs
            .values()
            .filter(|job| job.standing() == Standing::Returned);
        returning.map(|job| job.lease).collect()
    }

    /// The release of these is written.
    pub fn returned(&self, leases: &[Lease]) {
        let mut hand = self.hand();
        for lease in leases {
            let held = hand.jobs.get(&lease.job_id);
            if held.is_some_and(|held| held.lease == *lease) {
                hand.jobs.remove(&lease.job_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use jobs::{
        JobId, LeaseNo, WorkerId,
        queue::{Heartbeat, Lease},
    };

    use super::{Holdings, Standing};

    fn lease() -> Lease {
        Lease {
            job_id: JobId::now(),
            lease_no: LeaseNo(1),
        }
    }

    fn holdings() -> Holdings {
        let holdings = Holdings::default();
        holdings.registered(Some(WorkerId(1)));
        holdings
    }

    #[test]
    fn a_lost_registration_takes_all_jobs_along() {
        let holdings = holdings();
        let job = holdings.take(WorkerId(1), lease());
        assert_eq!(job.standing(), Standing::Wanted);
        holdings.registered(None);
        assert_eq!(
            (job.standing(), holdings.is_empty()),
            (Standing::Lost, true)
        );
        assert!(!job.decide(), "nothing may be written");
    }

    #[test]
    fn a_claim_that_comes_back_late_is_lost_at_once() {
        let holdings = Holdings::default();
        holdings.registered(Some(WorkerId(2)));
        let late = holdings.take(WorkerId(1), lease());
        assert_eq!(late.standing(), Standing::Lost);
    }

    #[test]
    fn a_job_claimed_anew_outlives_its_old_holding() {
        let (holdings, lease) = (holdings(), lease());
        let old = holdings.take(WorkerId(1), lease);
        let new = holdings.take(WorkerId(1), lease);
        holdings.drop_job(&old);
        assert_eq!(holdings.len(), 1);
        holdings.drop_job(&new);
        assert!(holdings.is_empty());
    }

    #[test]
    fn what_is_on_the_device_stays_and_the_rest_goes_back() {
        let holdings = holdings();
        let [device, waiting] = [lease(), lease()].map(|lease| holdings.take(WorkerId(1), lease));
        assert!(device.decide());
        holdings.return_all();
        assert_eq!(holdings.returning(), [waiting.lease]);
        assert!(!waiting.decide(), "it must not reach the device any more");
        holdings.drop_job(&waiting);
        assert_eq!(holdings.len(), 2, "in hand until its release is written");
        holdings.returned(&[waiting.lease]);
        assert_eq!(holdings.len(), 1);
        holdings.drop_job(&device);
        assert!(holdings.is_empty());
    }

    #[test]
    fn a_heartbeat_returns_what_is_canceled_and_loses_what_is_gone() {
        let holdings = holdings();
        let jobs = [lease(), lease(), lease(), lease()];
        let [kept, canceled, late, gone] = jobs.map(|lease| holdings.take(WorkerId(1), lease));
        assert!(late.decide());
        let beat = Heartbeat {
            draining: false,
            canceled: vec![canceled.lease.job_id, late.lease.job_id],
            held: [&kept, &canceled, &late].map(|job| job.lease).to_vec(),
        };
        holdings.hear(&holdings.all(), &beat);
        assert_eq!(kept.standing(), Standing::Wanted);
        assert_eq!(canceled.standing(), Standing::Returned);
        assert_eq!(late.standing(), Standing::Decided, "its outcome ends it");
        assert_eq!(gone.standing(), Standing::Lost);
        assert_eq!(holdings.returning(), [canceled.lease]);
    }

    #[tokio::test]
    async fn a_stray_is_one_that_two_heartbeats_know_and_nobody_here() {
        let (holdings, mut before) = (holdings(), HashSet::new());
        let (known, stray) = (lease(), lease());
        holdings.take(WorkerId(1), known);
        let beat = Heartbeat {
            draining: false,
            canceled: vec![],
            held: vec![known, stray],
        };
        assert!(holdings.strays(&mut before, &beat).is_empty());
        assert_eq!(holdings.strays(&mut before, &beat), [stray]);
        let claim = holdings.may_claim().await;
        assert!(holdings.strays(&mut before, &beat).is_empty());
        drop(claim);
        assert!(
            holdings.strays(&mut before, &beat).is_empty(),
            "its claim was under way at the heartbeat before"
        );
    }

    #[tokio::test]
    async fn a_claim_under_way_is_waited_for() {
        let holdings = holdings();
        let claim = holdings.may_claim().await;
        let mut settled = std::pin::pin!(holdings.claims_settled());
        let early = std::future::poll_fn(|cx| std::task::Poll::Ready(settled.as_mut().poll(cx)));
        assert!(early.await.is_pending());
        drop(claim);
        settled.await;
    }
}
