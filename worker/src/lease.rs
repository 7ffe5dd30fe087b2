//! The worker's lease: registering, renewing it, and giving jobs back.
//!
//! No decision here uses a clock of this machine against one of Postgres: the lease runs by the database's clock, and the
//! only local measure is how long ago it was last renewed.

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
    drain::{Drain, Phase},
    holdings::Holdings,
};

/// Least time between two heartbeats, however often somebody asks for one.
const HEARTBEAT_LEAST: Duration = Duration::from_millis(20);
/// How long giving back and deregistering may take at the very end.
const GOODBYE: Duration = Duration::from_secs(3);

/// Keeps a lease for as long as the worker works: registers, renews, and registers anew under a new id after a loss.
pub async fn keep(
    db: Db,
    registration: Registration,
    lease: Duration,
    holdings: Arc<Holdings>,
    drain: Drain,
    listener: WorkerListener,
) {
    while drain.phase() < Phase::Leaving {
        let Some(worker) = register(&db, &registration, lease, &drain).await else {
            return;
        };
        listener.set_worker(worker);
        holdings.registered(Some(worker));
        tracing::info!(worker.id = %worker, worker.name = registration.name, device = registration.device, "registered");
        renew_until_lost(&db, worker, lease, &holdings, &drain, &listener).await;
        tracing::warn!(worker.id = %worker, jobs.lost = holdings.len(), "lease lost: all work stops");
        metrics::counter!("darkroom_leases_lost_total").increment(1);
        holdings.registered(None);
        if !drain.is_working() {
            return;
        }
    }
}

/// Registers, however long Postgres is away; gives up only when the worker drains.
async fn register(
    db: &Db,
    registration: &Registration,
    lease: Duration,
    drain: &Drain,
) -> Option<WorkerId> {
    let mut pause = Duration::from_millis(100);
    while drain.is_working() {
        let register = queue::register(db, registration, lease.as_secs_f64());
        match jobs::db::answered(db, register).await {
            Ok(worker) => return Some(worker),
            Err(error) => tracing::warn!(error.cause = %error, "cannot register; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(jitter(pause)) => {}
            () = drain.reached(Phase::Finishing) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    None
}

/// Renews three times a lease, and at once when somebody asks this worker for something: the answer says for what.
async fn renew_until_lost(
    db: &Db,
    worker: WorkerId,
    lease: Duration,
    holdings: &Holdings,
    drain: &Drain,
    listener: &WorkerListener,
) {
    let mut renewed_at = Instant::now();
    let mut pause = lease / 3;
    let mut unknown = HashSet::new();
    loop {
        listener.requested(pause).await;
        // What is in hand before the statement begins is what its answer can speak about.
        let (asked_at, before) = (Instant::now(), holdings.all());
        let beat = queue::heartbeat(db, worker, lease.as_secs_f64());
        // Never later than the lease's end: a connection that hangs is as good as none.
        let left = lease.saturating_sub(renewed_at.elapsed());
        let beat = tokio::time::timeout(left, beat).await;
        match beat {
            Ok(Ok(beat)) => {
                (renewed_at, pause) = (asked_at, lease / 3);
                holdings.hear(&before, &beat);
                if beat.draining {
                    drain.advance(Phase::Finishing, "an operator asked for it");
                }
                // Not while it leaves: what a broken device was at has to count as lost.
                if drain.is_working() {
                    give_back_strays(db, &holdings.strays(&mut unknown, &beat)).await;
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
        tokio::time::sleep(HEARTBEAT_LEAST.saturating_sub(asked_at.elapsed())).await;
    }
}

/// Releases what was claimed for this worker without its knowing; what cannot be released now is a stray the next time.
async fn give_back_strays(db: &Db, strays: &[Lease]) {
    if strays.is_empty() {
        return;
    }
    tracing::warn!(
        jobs.count = strays.len(),
        "claimed, but the answer was lost: giving them back"
    );
    if let Err(error) = jobs::db::answered(db, queue::release(db, strays)).await {
        tracing::warn!(error.cause = %error, "not given back; trying again");
    }
}

/// Writes the release of jobs that go back, as soon as they do: those that are canceled, and when the worker drains all
/// that are not on the device. They need not wait for the pipeline, which finds out at its next boundary.
pub async fn give_back(db: Db, holdings: Arc<Holdings>, notifier: Notifier, drain: Drain) {
    let mut drained = false;
    loop {
        tokio::select! {
            () = drain.reached(Phase::Draining), if !drained => {
                drained = true;
                holdings.return_all();
            }
            () = holdings.some_return() => {}
        }
        let mut pause = Duration::from_millis(50);
        loop {
            let leases = holdings.returning();
            if leases.is_empty() {
                break;
            }
            match jobs::db::answered(&db, queue::release(&db, &leases)).await {
                Ok(released) => {
                    tracing::info!(jobs.released = released.len(), "gave jobs back");
                    metrics::counter!("darkroom_jobs_total", "outcome" => "released")
                        .increment(released.len() as u64);
                    holdings.returned(&leases);
                    notifier.changed(released);
                    notifier.queued(queue::ANY_MODEL);
                    notifier.flush().await;
                }
                Err(error) => {
                    tracing::warn!(error.cause = %error, jobs.count = leases.len(), "not given back; trying again");
                    tokio::time::sleep(jitter(pause)).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        }
    }
}

/// Gives back whatever is in hand and ends the registration: the last thing a worker does.
pub async fn leave(db: &Db, holdings: &Holdings, notifier: &Notifier) {
    let worker = *holdings.worker().borrow();
    let Some(worker) = worker else { return };
    let goodbye = async {
        // One that was asked for before the drain may yet come back with jobs.
        holdings.claims_settled().await;
        let leases: Vec<Lease> = holdings.all().iter().map(|job| job.lease).collect();
        if !leases.is_empty() {
            let released = queue::release(db, &leases).await?;
            tracing::info!(worker.id = %worker, jobs.released = released.len(), "released what was in hand");
            notifier.changed(released);
            notifier.queued(queue::ANY_MODEL);
        }
        notifier.flush().await;
        queue::deregister(db, worker).await
    };
    match tokio::time::timeout(GOODBYE, goodbye).await {
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
