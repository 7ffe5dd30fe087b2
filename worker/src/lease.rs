//! The lease of the worker: registering, renewing the lease, and releasing jobs.
//!
//! Nothing here compares a clock of this machine with that of Postgres. The lease runs by the clock of Postgres. The
//! worker only measures how long ago it renewed the lease.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    WorkerId,
    db::Db,
    queue::{self, Lease, Notifier, QueueError, Registration, WorkerListener},
};

use crate::{
    backoff::{Backoff, with_jitter},
    drain::{Drain, Phase},
    held_jobs::HeldJobs,
};

/// Least time between two heartbeats, however many requests for one arrive.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Longest time for releasing jobs and deregistering at the end.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(3);

/// Registers the worker and renews its lease while the worker works. After a lost lease, registers under a new id.
pub async fn keep_lease(
    db: Db,
    registration: Registration,
    lease: Duration,
    held_jobs: Arc<HeldJobs>,
    drain: Drain,
    listener: WorkerListener,
) {
    while drain.phase() < Phase::Leaving {
        let Some(worker) = register(&db, &registration, lease, &drain).await else {
            return;
        };
        listener.set_worker(worker);
        held_jobs.set_worker(Some(worker));
        tracing::info!(worker.id = %worker, worker.name = registration.name, device = registration.device, "registered");
        renew_until_lost(&db, worker, lease, &held_jobs, &drain, &listener).await;
        tracing::warn!(worker.id = %worker, jobs.lost = held_jobs.len(), "the lease is lost; dropping all jobs");
        metrics::counter!("darkroom_leases_lost_total").increment(1);
        held_jobs.set_worker(None);
        if !drain.is_working() {
            return;
        }
    }
}

/// Registers the worker; tries again until it works. Returns `None` only when the worker drains.
async fn register(
    db: &Db,
    registration: &Registration,
    lease: Duration,
    drain: &Drain,
) -> Option<WorkerId> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while drain.is_working() {
        let register = queue::register(db, registration, lease.as_secs_f64());
        match jobs::db::answered(db, register).await {
            Ok(worker) => return Some(worker),
            Err(error) => {
                tracing::warn!(error.cause = %error, error.advice = jobs::db::advice(&error), "cannot register; trying again");
            }
        }
        tokio::select! {
            () = backoff.sleep() => {}
            () = drain.reached(Phase::Finishing) => {}
        }
    }
    None
}

/// Renews the lease three times in its length, and at once on a wake-up: the heartbeat tells what is requested of this worker.
async fn renew_until_lost(
    db: &Db,
    worker: WorkerId,
    lease: Duration,
    held_jobs: &HeldJobs,
    drain: &Drain,
    listener: &WorkerListener,
) {
    let mut renewed_at = Instant::now();
    let mut wait = lease / 3;
    let mut unknown_leases = HashSet::new();
    loop {
        listener.requested(wait).await;
        // The response can only be about jobs that were claimed before the statement began.
        let (sent_at, jobs) = (Instant::now(), held_jobs.all());
        let beat = queue::heartbeat(db, worker, lease.as_secs_f64());
        // Not longer than the lease: a connection that hangs must not hide the end of the lease.
        let left = lease.saturating_sub(renewed_at.elapsed());
        let beat = tokio::time::timeout(left, beat).await;
        match beat {
            Ok(Ok(beat)) => {
                (renewed_at, wait) = (sent_at, lease / 3);
                held_jobs.apply_heartbeat(&jobs, &beat);
                if beat.draining {
                    drain.advance(Phase::Finishing, "requested by an operator");
                }
                // Not in a drain: the jobs of a broken device have to count as lost.
                if drain.is_working() {
                    release_strays(db, &held_jobs.find_strays(&mut unknown_leases, &beat)).await;
                }
            }
            Ok(Err(QueueError::LeaseLost)) => return,
            Ok(Err(error)) => {
                jobs::db::note_error(&error);
                tracing::warn!(worker.id = %worker, error.cause = %error, error.advice = jobs::db::advice(&error),
                    "cannot renew the lease; trying again");
                wait = with_jitter((lease / 15).min(Duration::from_secs(1)));
            }
            Err(_) => wait = Duration::ZERO,
        }
        if renewed_at.elapsed() >= lease {
            return;
        }
        tokio::time::sleep(HEARTBEAT_INTERVAL_MIN.saturating_sub(sent_at.elapsed())).await;
    }
}

/// Releases jobs that this worker claimed without getting the response. A failed release is tried again at the next heartbeat.
async fn release_strays(db: &Db, strays: &[Lease]) {
    if strays.is_empty() {
        return;
    }
    tracing::warn!(
        jobs.count = strays.len(),
        "the response of a claim was lost; releasing its jobs"
    );
    if let Err(error) = jobs::db::answered(db, queue::release(db, strays)).await {
        tracing::warn!(error.cause = %error, "cannot release jobs; trying again");
    }
}

/// Releases returned jobs at once: canceled jobs, and in a drain all jobs that are not on the device. Never returns.
///
/// A returned job does not wait for the pipeline, which drops the job at its next stage.
pub async fn release_returned_jobs(
    db: Db,
    held_jobs: Arc<HeldJobs>,
    notifier: Notifier,
    drain: Drain,
) {
    let mut has_returned_all = false;
    loop {
        tokio::select! {
            () = drain.reached(Phase::Draining), if !has_returned_all => {
                has_returned_all = true;
                held_jobs.return_all();
            }
            () = held_jobs.wait_for_returned_jobs() => {}
        }
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let leases = held_jobs.unreleased();
            if leases.is_empty() {
                break;
            }
            match jobs::db::answered(&db, queue::release(&db, &leases)).await {
                Ok(released) => {
                    tracing::info!(jobs.released = released.len(), "released jobs");
                    metrics::counter!("darkroom_jobs_total", "outcome" => "released")
                        .increment(released.len() as u64);
                    held_jobs.remove_released(&leases);
                    notifier.changed(released);
                    notifier.queued(queue::ANY_MODEL);
                    notifier.flush().await;
                }
                Err(error) => {
                    tracing::warn!(error.cause = %error, jobs.count = leases.len(), "cannot release jobs; trying again");
                    backoff.sleep().await;
                }
            }
        }
    }
}

/// Releases all held jobs and ends the registration. The worker calls this at its end.
pub async fn deregister(db: &Db, held_jobs: &HeldJobs, notifier: &Notifier) {
    let worker = *held_jobs.worker().borrow();
    let Some(worker) = worker else { return };
    let deregister = async {
        // A claim from before the drain may still bring jobs.
        held_jobs.wait_for_claims().await;
        let leases: Vec<Lease> = held_jobs.all().iter().map(|job| job.lease).collect();
        if !leases.is_empty() {
            let released = queue::release(db, &leases).await?;
            tracing::info!(worker.id = %worker, jobs.released = released.len(), "released all held jobs");
            notifier.changed(released);
            notifier.queued(queue::ANY_MODEL);
        }
        notifier.flush().await;
        queue::deregister(db, worker).await
    };
    match tokio::time::timeout(DEREGISTER_TIMEOUT, deregister).await {
        Ok(Ok(())) => tracing::info!(worker.id = %worker, "deregistered"),
        Ok(Err(error)) => {
            tracing::warn!(worker.id = %worker, error.cause = %error, "cannot deregister; the lease will expire");
        }
        Err(_) => {
            tracing::warn!(worker.id = %worker, "could not deregister in time; the lease will expire");
        }
    }
}
