//! The jobs that the worker holds, and the state of each: wanted, decided, returned or lost.

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

/// The state of a held job. Every stage checks it. It only moves forward; `Returned` and `Lost` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum HeldJobState {
    Wanted,
    /// The image is on the device, or the outcome is being written: too late to release the job.
    Decided,
    /// To be released, because the worker leaves or the client canceled the job. The pipeline sees it at its next stage.
    Returned,
    /// The lease of the worker has ended, or another worker has the job: nothing may be written.
    Lost,
}

/// A held job.
#[derive(Debug)]
pub struct HeldJob {
    pub lease: Lease,
    state: AtomicU8,
}

impl HeldJob {
    pub fn state(&self) -> HeldJobState {
        match self.state.load(Ordering::Acquire) {
            0 => HeldJobState::Wanted,
            1 => HeldJobState::Decided,
            2 => HeldJobState::Returned,
            _ => HeldJobState::Lost,
        }
    }

    /// Moves to `Decided`: from here on this worker makes the outcome. Returns false if the job is not wanted any more.
    pub fn decide(&self) -> bool {
        self.change_state(HeldJobState::Wanted, HeldJobState::Decided)
            || self.state() == HeldJobState::Decided
    }

    fn change_state(&self, from: HeldJobState, to: HeldJobState) -> bool {
        self.state
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn lose(&self) {
        let _ = self.change_state(HeldJobState::Wanted, HeldJobState::Lost)
            || self.change_state(HeldJobState::Decided, HeldJobState::Lost);
    }
}

#[derive(Debug, Default)]
struct Inner {
    worker: Option<WorkerId>,
    jobs: HashMap<JobId, Arc<HeldJob>>,
}

/// All held jobs, and the registration under which the worker claimed them.
#[derive(Debug)]
pub struct HeldJobs {
    inner: Mutex<Inner>,
    worker: watch::Sender<Option<WorkerId>>,
    /// Taken from the start of a claim until its jobs are in `inner`.
    claiming: Arc<Semaphore>,
    /// Notified when jobs are returned and their release has to be written.
    jobs_returned: Notify,
}

impl Default for HeldJobs {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            worker: watch::Sender::new(None),
            claiming: Arc::new(Semaphore::new(1)),
            jobs_returned: Notify::new(),
        }
    }
}

impl HeldJobs {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while it is held")
    }

    /// The current registration; `None` while there is none.
    pub fn worker(&self) -> watch::Receiver<Option<WorkerId>> {
        self.worker.subscribe()
    }

    /// The permit for one claim, to be statements until its jobs are added. There is one permit.
    pub async fn begin_claim(&self) -> Option<OwnedSemaphorePermit> {
        self.claiming.clone().acquire_owned().await.ok()
    }

    /// Returns when no claim is running. The jobs of earlier claims are held by then.
    pub async fn wait_for_claims(&self) {
        drop(self.claiming.acquire().await);
    }

    /// Adds a claimed job. The job is lost at once if the registration of the claim has ended.
    pub fn add(&self, worker: WorkerId, lease: Lease) -> Arc<HeldJob> {
        let mut inner = self.inner();
        let is_live = inner.worker == Some(worker);
        let state = if is_live {
            HeldJobState::Wanted
        } else {
            HeldJobState::Lost
        };
        let job = Arc::new(HeldJob {
            lease,
            state: AtomicU8::new(state as u8),
        });
        if is_live {
            inner.jobs.insert(lease.job_id, job.clone());
        }
        job
    }

    /// Removes a job whose attempt has ended. A returned job stays until its release is written.
    pub fn drop_job(&self, job: &Arc<HeldJob>) {
        let mut inner = self.inner();
        // The worker may have claimed the job again.
        let held = inner.jobs.get(&job.lease.job_id);
        if held.is_some_and(|held| Arc::ptr_eq(held, job)) && job.state() != HeldJobState::Returned
        {
            inner.jobs.remove(&job.lease.job_id);
        }
    }

    pub fn len(&self) -> usize {
        self.inner().jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All jobs that the worker holds now.
    pub fn all(&self) -> Vec<Arc<HeldJob>> {
        self.inner().jobs.values().cloned().collect()
    }

    /// Sets the registration. All jobs of an earlier registration are lost.
    pub fn set_worker(&self, worker: Option<WorkerId>) {
        let mut inner = self.inner();
        inner.worker = worker;
        for (_, job) in inner.jobs.drain() {
            job.lose();
        }
        self.worker.send_replace(worker);
    }

    /// Applies the response of a heartbeat to `jobs`: those that were held before the heartbeat was sent.
    pub fn apply_heartbeat(&self, jobs: &[Arc<HeldJob>], beat: &Heartbeat) {
        let mut has_returned = false;
        for job in jobs {
            if beat.canceled.contains(&job.lease.job_id) {
                has_returned |= job.change_state(HeldJobState::Wanted, HeldJobState::Returned);
            } else if !beat.held.contains(&job.lease) {
                job.lose();
            }
        }
        if has_returned {
            self.jobs_returned.notify_one();
        }
    }

    /// Leases that Postgres has and the worker does not know, neither now nor at the heartbeat before: their claim was
    /// committed, and its response was lost.
    ///
    /// `unknown_before`: the unknown leases of the heartbeat before. It is updated.
    pub fn find_strays(&self, unknown_before: &mut HashSet<Lease>, beat: &Heartbeat) -> Vec<Lease> {
        if self.claiming.available_permits() == 0 {
            unknown_before.clear(); // the response of that claim may still come
            return Vec::new();
        }
        let inner = self.inner();
        let unknown = beat.held.iter().filter(|lease| {
            let held = inner.jobs.get(&lease.job_id);
            held.is_none_or(|held| held.lease != **lease)
        });
        let unknown: HashSet<Lease> = unknown.copied().collect();
        let strays = unknown.intersection(unknown_before).copied().collect();
        *unknown_before = unknown;
        strays
    }

    /// Returns all jobs that are not on the device yet.
    pub fn return_all(&self) {
        for job in self.inner().jobs.values() {
            job.change_state(HeldJobState::Wanted, HeldJobState::Returned);
        }
        self.jobs_returned.notify_one();
    }

    /// Waits until jobs were returned since the last call.
    pub async fn wait_for_returned_jobs(&self) {
        self.jobs_returned.notified().await;
    }

    /// Leases of the returned jobs whose release is not written yet.
    pub fn unreleased(&self) -> Vec<Lease> {
        let inner = self.inner();
        let returned = inner
            .jobs
            .values()
            .filter(|job| job.state() == HeldJobState::Returned);
        returned.map(|job| job.lease).collect()
    }

    /// Removes jobs whose release is written.
    pub fn remove_released(&self, leases: &[Lease]) {
        let mut inner = self.inner();
        for lease in leases {
            let held = inner.jobs.get(&lease.job_id);
            if held.is_some_and(|held| held.lease == *lease) {
                inner.jobs.remove(&lease.job_id);
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

    use super::{HeldJobState, HeldJobs};

    fn lease() -> Lease {
        Lease {
            job_id: JobId::now(),
            lease_no: LeaseNo(1),
        }
    }

    fn held_jobs() -> HeldJobs {
        let held_jobs = HeldJobs::default();
        held_jobs.set_worker(Some(WorkerId(1)));
        held_jobs
    }

    #[test]
    fn all_jobs_of_a_lost_registration_are_lost() {
        let held_jobs = held_jobs();
        let job = held_jobs.add(WorkerId(1), lease());
        assert_eq!(job.state(), HeldJobState::Wanted);
        held_jobs.set_worker(None);
        assert_eq!(
            (job.state(), held_jobs.is_empty()),
            (HeldJobState::Lost, true)
        );
        assert!(!job.decide(), "nothing may be written");
    }

    #[test]
    fn a_claim_of_an_ended_registration_is_lost_at_once() {
        let held_jobs = HeldJobs::default();
        held_jobs.set_worker(Some(WorkerId(2)));
        let late = held_jobs.add(WorkerId(1), lease());
        assert_eq!(late.state(), HeldJobState::Lost);
    }

    #[test]
    fn a_job_that_is_claimed_again_stays_held_when_its_first_attempt_ends() {
        let (held_jobs, lease) = (held_jobs(), lease());
        let old = held_jobs.add(WorkerId(1), lease);
        let new = held_jobs.add(WorkerId(1), lease);
        held_jobs.drop_job(&old);
        assert_eq!(held_jobs.len(), 1);
        held_jobs.drop_job(&new);
        assert!(held_jobs.is_empty());
    }

    #[test]
    fn jobs_on_the_device_stay_and_the_others_are_returned() {
        let held_jobs = held_jobs();
        let [device, waiting] = [lease(), lease()].map(|lease| held_jobs.add(WorkerId(1), lease));
        assert!(device.decide());
        held_jobs.return_all();
        assert_eq!(held_jobs.unreleased(), [waiting.lease]);
        assert!(!waiting.decide(), "it must not reach the device any more");
        held_jobs.drop_job(&waiting);
        assert_eq!(held_jobs.len(), 2, "held until its release is written");
        held_jobs.remove_released(&[waiting.lease]);
        assert_eq!(held_jobs.len(), 1);
        held_jobs.drop_job(&device);
        assert!(held_jobs.is_empty());
    }

    #[test]
    fn a_heartbeat_returns_canceled_jobs_and_loses_jobs_without_a_lease() {
        let held_jobs = held_jobs();
        let jobs = [lease(), lease(), lease(), lease()];
        let [statements, canceled, late, gone] =
            jobs.map(|lease| held_jobs.add(WorkerId(1), lease));
        assert!(late.decide());
        let beat = Heartbeat {
            draining: false,
            canceled: vec![canceled.lease.job_id, late.lease.job_id],
            held: [&statements, &canceled, &late]
                .map(|job| job.lease)
                .to_vec(),
        };
        held_jobs.apply_heartbeat(&held_jobs.all(), &beat);
        assert_eq!(statements.state(), HeldJobState::Wanted);
        assert_eq!(canceled.state(), HeldJobState::Returned);
        assert_eq!(late.state(), HeldJobState::Decided, "its outcome ends it");
        assert_eq!(gone.state(), HeldJobState::Lost);
        assert_eq!(held_jobs.unreleased(), [canceled.lease]);
    }

    #[tokio::test]
    async fn a_stray_is_a_lease_that_was_unknown_at_two_heartbeats() {
        let (held_jobs, mut unknown) = (held_jobs(), HashSet::new());
        let (known, stray) = (lease(), lease());
        held_jobs.add(WorkerId(1), known);
        let beat = Heartbeat {
            draining: false,
            canceled: vec![],
            held: vec![known, stray],
        };
        assert!(held_jobs.find_strays(&mut unknown, &beat).is_empty());
        assert_eq!(held_jobs.find_strays(&mut unknown, &beat), [stray]);
        let claim = held_jobs.begin_claim().await;
        assert!(held_jobs.find_strays(&mut unknown, &beat).is_empty());
        drop(claim);
        assert!(
            held_jobs.find_strays(&mut unknown, &beat).is_empty(),
            "its claim was running at the heartbeat before"
        );
    }

    #[tokio::test]
    async fn a_running_claim_is_waited_for() {
        let held_jobs = held_jobs();
        let claim = held_jobs.begin_claim().await;
        let mut no_claims = std::pin::pin!(held_jobs.wait_for_claims());
        let early = std::future::poll_fn(|cx| std::task::Poll::Ready(no_claims.as_mut().poll(cx)));
        assert!(early.await.is_pending());
        drop(claim);
        no_claims.await;
    }
}
