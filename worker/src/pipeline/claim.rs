//! The claim stage: carries out the plans of [`ClaimPolicy`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::{
    WorkerId,
    queue::{self, Claim, LowWater, LowerLevels, QueueError, WorkerListener},
};
use sqlx::PgConnection;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    attempt::{Attempt, EndedAttempt, Outcome, Place},
    claim_policy::{ClaimPolicy, ClaimResult, ClaimSettings, Observed, Plan, Scope, Wait},
    context::StageContext,
};
use crate::{background, backoff::with_jitter, config::EndConfig, drain::Phase};

/// Interruptions that make a job a suspect. One may be a spot machine that left; two may be an image that kills workers.
const SUSPECT_FROM: i16 = 2;
/// How often the number of held jobs is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Claimer {
    pub context: Arc<StageContext>,
    pub settings: ClaimSettings,
    /// One permit for each place in the pipeline.
    pub places: Arc<Semaphore>,
    pub end: EndConfig,
    /// See [`LowerLevels::with_share`].
    pub lower_priority_share: f64,
    pub listener: WorkerListener,
    /// Jobs claimed since the start.
    pub claimed: AtomicU64,
    pub to_fetch: mpsc::Sender<Attempt>,
    pub to_complete: mpsc::Sender<EndedAttempt>,
}

/// What the claims of a scope remember.
#[derive(Debug, Default)]
struct ClaimMemory {
    /// Where claims start to look.
    low_water: LowWater,
    lower_levels: LowerLevels,
}

#[derive(Debug)]
struct ClaimMemories {
    all: Arc<ClaimMemory>,
    loaded: Arc<ClaimMemory>,
}

impl ClaimMemories {
    fn new(lower_priority_share: f64) -> Self {
        let memory = || {
            Arc::new(ClaimMemory {
                low_water: LowWater::default(),
                lower_levels: LowerLevels::with_share(lower_priority_share),
            })
        };
        Self {
            all: memory(),
            loaded: memory(),
        }
    }

    fn of(&self, scope: Scope) -> &Arc<ClaimMemory> {
        match scope {
            Scope::All | Scope::AllWhileCrowded => &self.all,
            Scope::Loaded => &self.loaded,
        }
    }
}

impl Claimer {
    /// Claims jobs until the worker finishes or drains.
    pub(super) async fn run(self) {
        let drain = self.context.drain.clone();
        tokio::select! {
            () = drain.reached(Phase::Finishing) => {}
            () = self.watch_idleness(), if self.end.max_idle.is_some() => {}
            () = self.claim_jobs() => {}
        }
    }

    async fn claim_jobs(&self) {
        let mut policy = ClaimPolicy::new(self.settings.clone());
        let mut registration = self.context.held_jobs.worker();
        let memories = ClaimMemories::new(self.lower_priority_share);
        let (started_at, mut last_claim, mut last_memory) = (Instant::now(), None, &memories.all);
        loop {
            let worker = *registration.borrow_and_update();
            let observed = Observed {
                now: started_at.elapsed(),
                is_working: self.context.drain.is_working(),
                is_registered: worker.is_some(),
                jobs_left: self.jobs_left(),
                free_places: self.places.available_permits(),
                held_jobs: self.context.held_jobs.len(),
                crowded: self.context.models.loaded_if_crowded(),
                has_outage: self.context.claim_pause.has_outage(),
                pause_left: self.context.claim_pause.time_left(),
                last_claim: last_claim.take(),
                look_again_in: last_memory.low_water.look_again_in(),
            };
            match policy.next(&observed) {
                Plan::Claim {
                    models,
                    scope,
                    limit,
                } => {
                    let Some(worker) = worker else { continue };
                    last_memory = memories.of(scope);
                    let claim = self.claim(worker, models, last_memory.clone(), limit);
                    last_claim = Some(claim.await);
                }
                Plan::Wait(wait) => self.wait(wait, &mut registration).await,
                Plan::Finish(reason) => {
                    return self.context.drain.advance(Phase::Finishing, reason);
                }
                Plan::Stop => return,
            }
        }
    }

    async fn wait(&self, wait: Wait, registration: &mut watch::Receiver<Option<WorkerId>>) {
        match wait {
            // Fails only if the sender is dropped, and `held_jobs` keeps it.
            Wait::Registration => drop(registration.wait_for(Option::is_some).await),
            Wait::NoHeldJobs => wait_for_held_jobs(&self.context, 0).await,
            Wait::FreePlaces(places, longest) => {
                // Only this loop takes places, so they are still free when it observes again.
                let free = self.places.acquire_many(places as u32);
                let longest = longest.unwrap_or(Duration::MAX);
                drop(timeout(longest, free).await);
            }
            Wait::QueuedJobs(longest) => self.listener.queued(with_jitter(longest)).await,
            Wait::Pause(time) => sleep(time).await,
            Wait::Backoff(delay) => sleep(with_jitter(delay)).await,
        }
    }

    /// How many more jobs `--max-jobs` allows.
    fn jobs_left(&self) -> usize {
        let claimed = self.claimed.load(Ordering::Relaxed);
        let left = self
            .end
            .max_jobs
            .map_or(u64::MAX, |max| max.saturating_sub(claimed));
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Claims jobs and starts their attempts. Returns once a suspect among them has ended.
    async fn claim(
        &self,
        worker: WorkerId,
        models: Vec<String>,
        memory: Arc<ClaimMemory>,
        limit: usize,
    ) -> ClaimResult {
        let places = self.places.clone().acquire_many_owned(limit as u32).await;
        let task = ClaimTask {
            context: self.context.clone(),
            worker,
            models,
            memory,
            places: places.expect("the semaphore is never closed"),
            to_fetch: self.to_fetch.clone(),
            to_complete: self.to_complete.clone(),
        };
        // On its own task: a drain cancels this function, and must not drop jobs between their commit and their release.
        let drain = &self.context.drain;
        let claim = background::spawn_finite(drain, "claim", task.run()).await;
        let Ok(result) = claim else {
            return ClaimResult::Failed; // it panicked, and the worker drains
        };
        match result {
            Ok(claimed) => {
                if let ClaimResult::Claimed { jobs, .. } = claimed {
                    self.claimed.fetch_add(jobs as u64, Ordering::Relaxed);
                }
                claimed
            }
            Err(error) => {
                tracing::warn!(worker.id = %worker, error.cause = %error, "cannot claim jobs; trying again");
                ClaimResult::Failed
            }
        }
    }

    /// Finishes the worker once it has held no job for `--max-idle`.
    async fn watch_idleness(&self) {
        let idle_max = self.end.max_idle.unwrap_or(Duration::MAX);
        let check_interval = idle_max / 10;
        let check_interval =
            check_interval.clamp(Duration::from_millis(10), Duration::from_secs(1));
        let (mut busy_at, mut claimed_before) = (Instant::now(), 0);
        while busy_at.elapsed() < idle_max {
            sleep(check_interval).await;
            let claimed = self.claimed.load(Ordering::Relaxed);
            if claimed != claimed_before || !self.context.held_jobs.is_empty() {
                claimed_before = claimed;
                busy_at = Instant::now();
            }
        }
        let drain = &self.context.drain;
        drain.advance(Phase::Finishing, "nothing to do for --max-idle");
    }
}

/// One claim, and the start of the attempts.
struct ClaimTask {
    context: Arc<StageContext>,
    worker: WorkerId,
    models: Vec<String>,
    memory: Arc<ClaimMemory>,
    places: OwnedSemaphorePermit,
    to_fetch: mpsc::Sender<Attempt>,
    to_complete: mpsc::Sender<EndedAttempt>,
}

impl ClaimTask {
    async fn run(mut self) -> Result<ClaimResult, queue::QueueError> {
        let context = self.context.clone();
        let none = ClaimResult::Claimed {
            jobs: 0,
            has_suspects: false,
        };
        let Some(claiming) = context.held_jobs.begin_claim().await else {
            return Ok(none);
        };
        // Checked with the permit: after a notice a drain waits for the permit, so it sees the jobs of the last claim.
        if !context.drain.is_working() {
            return Ok(none);
        }
        let claims = self.claim_jobs().await?;
        let ids = claims.iter().map(|claim| claim.lease.job_id);
        context.notifier.started(ids);
        let (jobs, mut suspects) = (claims.len(), Vec::new());
        for claim in claims {
            let place = Place {
                job: context.held_jobs.add(self.worker, claim.lease),
                held_jobs: context.held_jobs.clone(),
                permit: self.places.split(1).expect("at most `limit` claims"),
            };
            metrics::histogram!("darkroom_queue_seconds").record(claim.queue_ms / 1000.0);
            let attempt = Attempt::new(claim, place, self.to_complete.clone());
            if attempt.claim.interruptions >= SUSPECT_FROM {
                suspects.push(attempt);
            } else {
                // The channel has room for all places, so it is never full. If the process ends, the dropped attempt
                // releases its job.
                drop(self.to_fetch.try_send(attempt));
            }
        }
        let result = ClaimResult::Claimed {
            jobs,
            has_suspects: !suspects.is_empty(),
        };
        drop((self.places, claiming));
        run_first_suspect(&context, suspects, &self.to_fetch).await;
        Ok(result)
    }

    /// Claims what is owed to lower priorities, then the rest.
    async fn claim_jobs(&self) -> Result<Vec<Claim>, QueueError> {
        let (worker, models) = (self.worker, &self.models[..]);
        let ClaimMemory {
            low_water,
            lower_levels,
        } = &*self.memory;
        let statements = &self.context.statements;
        let limit = self.places.num_permits() as u16;
        let mut claims = Vec::new();
        if lower_levels.is_turn_due(limit) {
            let lower = async |db: &mut PgConnection| {
                queue::claim_lower(db, worker, models, limit, lower_levels).await
            };
            claims = statements.run(lower).await?;
        }
        let limit = limit - claims.len() as u16;
        if limit == 0 {
            return Ok(claims);
        }
        let all = async |db: &mut PgConnection| {
            queue::claim(db, worker, models, limit, low_water, lower_levels).await
        };
        match statements.run(all).await {
            Ok(more) => claims.extend(more),
            // The first claim has committed.
            Err(error) if !claims.is_empty() => {
                tracing::warn!(worker.id = %worker, error.cause = %error, "cannot claim more jobs; trying again");
            }
            Err(error) => return Err(error),
        }
        Ok(claims)
    }
}

/// Runs the first suspect while no other job is held, so that no other job is lost with it. Releases the other suspects.
async fn run_first_suspect(
    context: &StageContext,
    suspects: Vec<Attempt>,
    to_fetch: &mpsc::Sender<Attempt>,
) {
    let mut suspects = suspects.into_iter();
    let Some(suspect) = suspects.next() else {
        return;
    };
    suspects.for_each(|attempt| attempt.end(Outcome::Release));
    wait_for_held_jobs(context, 1).await;
    if let Some(suspect) = suspect.if_wanted(&context.drain) {
        tracing::info!(job.id = %suspect.claim.lease.job_id, job.interruptions = suspect.claim.interruptions, "runs alone");
        drop(to_fetch.try_send(suspect));
        wait_for_held_jobs(context, 0).await;
    }
}

/// Returns when the worker holds at most `jobs_max` jobs, or drains.
async fn wait_for_held_jobs(context: &StageContext, jobs_max: usize) {
    while context.held_jobs.len() > jobs_max && !context.drain.is_draining() {
        sleep(CHECK_INTERVAL).await;
    }
}
