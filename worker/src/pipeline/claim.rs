//! Claiming: as much as there is room for, woken by news of the queue, with a slow poll behind it.

mod prefer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::{
    WorkerId,
    queue::{self, WorkerListener},
};
use prefer::{Ask, Preference};
use sqlx::PgConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    Outcome, Shared,
    work::{Place, Settled, Work},
};
use crate::{config::EndConfig, drain::Phase, lease::jitter};

/// Part of the room that must be free before more is claimed from a backlog: whole handfuls, not one job a statement.
const HANDFUL: usize = 4;
/// Most jobs of one statement.
const CLAIM_MAX: usize = 256;

/// Interruptions that make a job a suspect. Once is a spot machine that left; twice may be an image that kills workers.
const SUSPECT_FROM: i16 = 2;

/// Claims in a row that brought nothing to an empty-handed worker, before `--drain` believes that nothing is left: the
/// first may have met rows that somebody else was just giving back.
const EMPTY_CLAIMS: u8 = 2;

/// How long what is queued may gather, to share a claim, while there is [enough](super::Widths::enough) to do.
const GATHER: Duration = Duration::from_millis(100);

/// What one claim brought.
#[derive(Debug, Default)]
struct Claimed {
    jobs: usize,
    suspects: bool,
}

#[derive(Debug)]
pub(super) struct Claimer {
    pub shared: Arc<Shared>,
    pub models: Vec<String>,
    pub room: Arc<Semaphore>,
    pub room_size: usize,
    /// More in hand than this leave time to let others gather.
    pub enough: usize,
    pub poll: Duration,
    pub end: EndConfig,
    pub listener: WorkerListener,
    /// Jobs, ever.
    pub claimed: AtomicU64,
    pub to_fetch: mpsc::Sender<Work>,
    pub to_complete: mpsc::Sender<Settled>,
}

impl Claimer {
    /// Claims until the worker drains.
    pub(super) async fn claim_jobs(self) {
        let drain = self.shared.drain.clone();
        tokio::select! {
            () = drain.reached(Phase::Finishing) => {}
            () = self.watch_idleness(), if self.end.max_idle.is_some() => {}
            () = self.claim_for_ever() => {}
        }
    }

    async fn claim_for_ever(&self) {
        let mut preference = Preference::default();
        let mut registered = self.shared.holdings.worker();
        // Whether the last claim came back full: then there is more, and no news of it will come.
        let mut backlog = true;
        // After a suspect one job at a time, until one is none: what is claimed beside it only goes back.
        let mut most = CLAIM_MAX;
        let mut trouble = Duration::ZERO;
        let mut empty_claims = 0;
        loop {
            let left = self.jobs_left();
            if left == 0 {
                let drain = &self.shared.drain;
                return drain.advance(Phase::Finishing, "claimed --max-jobs");
            }
            let worker = match registered.wait_for(Option::is_some).await {
                Ok(worker) => worker.expect("waited for"),
                Err(_) => return,
            };
            self.shared.back_off.over().await;
            // One job finds out as well as many whether S3 is back.
            if self.shared.back_off.is_troubled() {
                most = 1;
            }
            most = most.min(left);
            let ask = preference.ask(self.shared.models.crowded(), &self.models, Instant::now());
            // In a crowd each model that is not loaded costs a loading, and another its place.
            let most_now = if ask.is_open_in_a_crowd() { 1 } else { most };
            let least = if backlog {
                self.room_size.div_ceil(HANDFUL).min(most_now)
            } else {
                1
            };
            if ask.is_open_in_a_crowd() {
                // What is in hand has its models now, and may lose one to the job that comes.
                until_held(&self.shared, 0).await;
            }
            let room = match most_now {
                CLAIM_MAX if !backlog => self.make_room_at_leisure().await,
                _ => self.make_room(least, most_now).await,
            };
            let asked = room.num_permits();
            let empty_handed = self.shared.holdings.is_empty();
            match self.claim(worker, room, &ask).await {
                Ok(claimed) => {
                    trouble = Duration::ZERO;
                    self.claimed
                        .fetch_add(claimed.jobs as u64, Ordering::Relaxed);
                    let is_full = claimed.jobs == asked;
                    if ask.is_for_loaded() && !is_full {
                        preference.open();
                    }
                    // Who asked for some models knows nothing of the others.
                    backlog = is_full || ask.is_for_loaded();
                    most = if claimed.suspects { 1 } else { CLAIM_MAX };
                    if ask.is_open_in_a_crowd() {
                        // Only then is it known which models are loaded.
                        until_held(&self.shared, 0).await;
                    }
                    if self.shared.back_off.is_troubled() {
                        // Its one job decides whether there is more to claim.
                        until_held(&self.shared, 0).await;
                    }
                    // A claim above the marks may pass over what came back below them.
                    if claimed.jobs > 0 || !empty_handed {
                        empty_claims = 0;
                    } else if self.end.drain
                        && !ask.is_for_loaded()
                        && ask.low_water.look_again_in().is_none()
                    {
                        empty_claims += 1;
                        if empty_claims >= EMPTY_CLAIMS {
                            let drain = &self.shared.drain;
                            return drain
                                .advance(Phase::Finishing, "--drain: nothing left to claim");
                        }
                    }
                    if !backlog {
                        let longest = ask.low_water.look_again_in().unwrap_or(self.poll);
                        let longest = jitter(longest.min(self.poll));
                        self.listener.queued(longest).await;
                    }
                }
                Err(error) => {
                    trouble =
                        (trouble * 2).clamp(Duration::from_millis(100), Duration::from_secs(5));
                    tracing::warn!(worker.id = %worker, error.cause = %error, "cannot claim; trying again");
                    tokio::time::sleep(jitter(trouble)).await;
                }
            }
        }
    }

    /// How many more `--max-jobs` allows.
    fn jobs_left(&self) -> usize {
        let claimed = self.claimed.load(Ordering::Relaxed);
        let left = self
            .end
            .max_jobs
            .map_or(u64::MAX, |max| max.saturating_sub(claimed));
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Room for whatever there is, at once when little is in hand. While there is enough to do, what comes may gather a
    /// little: one claim for each new job was 1.5 statements a job.
    async fn make_room_at_leisure(&self) -> OwnedSemaphorePermit {
        let wide = (self.room_size - self.enough).min(CLAIM_MAX);
        let wide = self.make_room(wide, CLAIM_MAX);
        match tokio::time::timeout(GATHER, wide).await {
            Ok(room) => room,
            Err(_) => self.make_room(1, CLAIM_MAX).await,
        }
    }

    /// Waits for `least` free places, then takes all that are free, up to `most`.
    async fn make_room(&self, least: usize, most: usize) -> OwnedSemaphorePermit {
        let room = self.room.clone().acquire_many_owned(least as u32).await;
        let mut room = room.expect("the room is never closed");
        let more = self
            .room
            .available_permits()
            .min(most.saturating_sub(least));
        if let Ok(more) = self.room.clone().try_acquire_many_owned(more as u32) {
            room.merge(more);
        }
        room
    }

    /// One statement, and its jobs on their way. Returns once a suspect among them is done.
    async fn claim(
        &self,
        worker: WorkerId,
        room: OwnedSemaphorePermit,
        ask: &Ask,
    ) -> Result<Claimed, queue::QueueError> {
        let (shared, ask) = (self.shared.clone(), ask.clone());
        let (to_fetch, to_complete) = (self.to_fetch.clone(), self.to_complete.clone());
        // On a task of its own: a drain that begins meanwhile must not drop jobs between their commit and their release.
        let claim = tokio::spawn(async move {
            let mut room = room;
            let Some(claiming) = shared.holdings.may_claim().await else {
                return Ok(Claimed::default());
            };
            // Looked at under the leave to claim: whoever waits for claims to settle after the notice has seen the last one.
            if !shared.drain.is_working() {
                return Ok(Claimed::default());
            }
            let limit = room.num_permits() as u16;
            let claim = async |db: &mut PgConnection| {
                queue::claim_on(db, worker, &ask.models, limit, &ask.low_water).await
            };
            let claims = shared.kept.run(claim).await?;
            let ids = claims.iter().map(|claim| claim.lease.job_id);
            shared.notifier.started(ids);
            let (jobs, mut suspects) = (claims.len(), Vec::new());
            for claim in claims {
                let place = Place {
                    job: shared.holdings.take(worker, claim.lease),
                    holdings: shared.holdings.clone(),
                    room: room.split(1).expect("no more claims than asked for"),
                };
                metrics::histogram!("darkroom_queue_seconds").record(claim.queue_ms / 1000.0);
                let work = Work::new(claim, place, to_complete.clone());
                if work.claim.interruptions >= SUSPECT_FROM {
                    suspects.push(work);
                } else {
                    // As long as the room is wide: never full. Without a reader the work releases itself.
                    drop(to_fetch.try_send(work));
                }
            }
            drop((room, claiming));
            let claimed = Claimed {
                jobs,
                suspects: !suspects.is_empty(),
            };
            run_suspects(&shared, suspects, &to_fetch).await;
            Ok(claimed)
        });
        claim.await.unwrap_or_else(|_| Ok(Claimed::default()))
    }

    /// Drains the worker once it has had nothing to do for too long.
    async fn watch_idleness(&self) {
        let idle_max = self.end.max_idle.unwrap_or(Duration::MAX);
        let (mut busy_at, mut before) = (Instant::now(), 0);
        while busy_at.elapsed() < idle_max {
            tokio::time::sleep(
                (idle_max / 10).clamp(Duration::from_millis(10), Duration::from_secs(1)),
            )
            .await;
            let claimed = self.claimed.load(Ordering::Relaxed);
            if claimed != before || !self.shared.holdings.is_empty() {
                before = claimed;
                busy_at = Instant::now();
            }
        }
        let drain = &self.shared.drain;
        drain.advance(Phase::Finishing, "nothing to do for --max-idle");
    }
}

/// Runs the first suspect with nothing else in hand, so that no neighbour is lost with it; the others go back and get
/// their own turns.
async fn run_suspects(shared: &Shared, suspects: Vec<Work>, to_fetch: &mpsc::Sender<Work>) {
    let mut suspects = suspects.into_iter();
    let Some(suspect) = suspects.next() else {
        return;
    };
    suspects.for_each(|work| work.settle(Outcome::Release));
    until_held(shared, 1).await;
    if let Some(suspect) = suspect.if_wanted(&shared.drain) {
        tracing::info!(job.id = %suspect.claim.lease.job_id, job.interruptions = suspect.claim.interruptions, "runs alone");
        drop(to_fetch.try_send(suspect));
        until_held(shared, 0).await;
    }
}

/// Returns when no more than so many jobs are in hand, or the worker drains.
async fn until_held(shared: &Shared, most: usize) {
    while shared.holdings.len() > most && !shared.drain.is_draining() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
