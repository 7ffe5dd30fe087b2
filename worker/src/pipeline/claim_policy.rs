//! Decides what the claim loop does next. Pure: no I/O, no clock, no randomness.

mod model_turns;

use std::time::Duration;

use self::model_turns::{ModelChoice, ModelTurns};
use crate::backoff::Backoff;

/// While the queue has more jobs, a claim waits until this part of the places is free: one claim for many jobs.
const BACKLOG_SHARE: usize = 4;
/// Most jobs of one claim.
const CLAIM_MAX: usize = 256;
/// How long new jobs may gather to share a claim, while [enough](ClaimSettings::busy_jobs) jobs are held. Without it
/// there were 1.5 claims for each job.
const GATHER_TIME: Duration = Duration::from_millis(100);
/// Empty claims in a row after which `--drain` ends the worker. The first one may have missed jobs that another worker was
/// releasing.
const EMPTY_CLAIMS: u8 = 2;
/// The delays after failed claims.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The settings of the worker that matter for claims.
#[derive(Debug, Clone)]
pub(super) struct ClaimSettings {
    /// The models that this worker runs; empty for any model.
    pub models: Vec<String>,
    /// Places in the pipeline.
    pub places: usize,
    /// With this many held jobs all stages stay busy for a moment.
    pub busy_jobs: usize,
    /// Longest time between two claims without a wake-up.
    pub poll_interval: Duration,
    /// `--drain`: end the worker when the queue is empty.
    pub ends_when_empty: bool,
}

/// What the claim loop knows right now.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    /// Time since the loop started.
    pub now: Duration,
    /// Whether the worker works, and neither finishes nor drains.
    pub is_working: bool,
    pub is_registered: bool,
    /// How many more jobs `--max-jobs` allows.
    pub jobs_left: usize,
    /// Free places in the pipeline.
    pub free_places: usize,
    /// Jobs that the worker holds.
    pub held_jobs: usize,
    /// Names of the loaded models, if not all models in use fit into memory.
    pub crowded: Option<Vec<String>>,
    /// Whether S3 or the model registry could not be reached at the last try.
    pub has_outage: bool,
    /// How long claims pause because of the outage.
    pub pause_left: Duration,
    /// The result of the last claim, once.
    pub last_claim: Option<ClaimResult>,
    /// When the last claim has to be repeated, because it may have missed jobs below the low-water marks.
    pub look_again_in: Option<Duration>,
}

/// The result of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimResult {
    Claimed {
        jobs: usize,
        /// Whether a job was among them that may kill workers.
        has_suspects: bool,
    },
    Failed,
}

/// The models that a claim is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All models that this worker runs.
    All,
    /// All models that this worker runs, although they do not all fit into memory.
    AllWhileCrowded,
    /// Loaded models only.
    Loaded,
}

/// What the claim loop does next. Then it observes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    Claim {
        /// Empty: any model.
        models: Vec<String>,
        scope: Scope,
        /// Most jobs to claim. So many places are free.
        limit: usize,
    },
    Wait(Wait),
    /// End the worker, once all held jobs are finished.
    Finish(&'static str),
    /// The worker drains: claim nothing more.
    Stop,
}

/// What the claim loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until the worker is registered.
    Registration,
    /// Until the worker holds no jobs.
    NoHeldJobs,
    /// Until so many places are free, or until the time is over.
    FreePlaces(usize, Option<Duration>),
    /// Until a wake-up tells of queued jobs, or until the time is over. The loop adds jitter.
    QueuedJobs(Duration),
    /// Until the pause of an outage is over.
    Pause(Duration),
    /// The backoff after a failed claim. The loop adds jitter.
    Backoff(Duration),
}

/// Decides what to claim, and when.
#[derive(Debug)]
pub(super) struct ClaimPolicy {
    settings: ClaimSettings,
    turns: ModelTurns,
    /// Whether the queue may have more jobs. No wake-up will report them.
    has_backlog: bool,
    /// Most jobs of the next claim. One after a suspect, until a claim without one: jobs that are claimed with a suspect are
    /// only released again.
    limit: usize,
    empty_claims: u8,
    backoff: Backoff,
    step: Step,
}

/// The steps from one claim to the next.
#[derive(Debug, Clone)]
enum Step {
    /// The next claim is not chosen yet.
    Choose,
    /// The next claim is chosen and waits for free places.
    WaitForPlaces(NextClaim),
    /// The claim is running; its result is not observed yet.
    Claiming {
        scope: Scope,
        limit: usize,
        /// Whether the worker held no job when it began to claim.
        was_idle: bool,
    },
    /// The claim has succeeded. Its jobs may decide what comes next.
    Claimed { scope: Scope },
}

#[derive(Debug, Clone)]
struct NextClaim {
    choice: ModelChoice,
    chosen_at: Duration,
    /// Places that must be free.
    places_min: usize,
    limit: usize,
}

impl ClaimPolicy {
    pub(super) fn new(settings: ClaimSettings) -> Self {
        Self {
            settings,
            turns: ModelTurns::default(),
            has_backlog: true,
            limit: CLAIM_MAX,
            empty_claims: 0,
            backoff: BACKOFF,
            step: Step::Choose,
        }
    }

    /// What to do now. The loop carries out the plan, observes again and calls again.
    pub(super) fn next(&mut self, observed: &Observed) -> Plan {
        if !observed.is_working {
            return Plan::Stop;
        }
        if let Step::Claiming {
            scope,
            limit,
            was_idle,
        } = self.step
            && let Some(plan) = self.learn(observed, scope, limit, was_idle)
        {
            return plan;
        }
        if let Step::Claimed { scope } = self.step {
            // While crowded, the next choice needs to know which models are loaded after this job. In an outage this job
            // tells whether the outage is over.
            let decides = scope == Scope::AllWhileCrowded || observed.has_outage;
            if decides && observed.held_jobs > 0 {
                return Plan::Wait(Wait::NoHeldJobs);
            }
            self.step = Step::Choose;
            if !self.has_backlog {
                let longest = self.settings.poll_interval;
                let longest = observed.look_again_in.unwrap_or(longest).min(longest);
                return Plan::Wait(Wait::QueuedJobs(longest));
            }
        }
        let next = match std::mem::replace(&mut self.step, Step::Choose) {
            Step::WaitForPlaces(next) => next,
            _ if observed.jobs_left == 0 => return Plan::Finish("claimed --max-jobs"),
            _ if !observed.is_registered => return Plan::Wait(Wait::Registration),
            _ if !observed.pause_left.is_zero() => {
                return Plan::Wait(Wait::Pause(observed.pause_left));
            }
            _ => self.choose(observed),
        };
        if let Some(wait) = self.wait_before(&next, observed) {
            self.step = Step::WaitForPlaces(next);
            return Plan::Wait(wait);
        }
        let limit = next.limit.min(observed.free_places);
        let ModelChoice { models, scope } = next.choice;
        self.step = Step::Claiming {
            scope,
            limit,
            was_idle: observed.held_jobs == 0,
        };
        Plan::Claim {
            models,
            scope,
            limit,
        }
    }

    /// Learns from the result of the last claim.
    fn learn(
        &mut self,
        observed: &Observed,
        scope: Scope,
        limit: usize,
        was_idle: bool,
    ) -> Option<Plan> {
        let Some(ClaimResult::Claimed { jobs, has_suspects }) = observed.last_claim else {
            self.step = Step::Choose;
            return Some(Plan::Wait(Wait::Backoff(self.backoff.next_delay())));
        };
        self.backoff.reset();
        self.step = Step::Claimed { scope };
        let is_full = jobs == limit;
        if scope == Scope::Loaded && !is_full {
            self.turns.open();
        }
        // A claim for loaded models tells nothing about jobs of the other models.
        self.has_backlog = is_full || scope == Scope::Loaded;
        self.limit = if has_suspects { 1 } else { CLAIM_MAX };
        if jobs > 0 || !was_idle {
            self.empty_claims = 0;
        } else if self.settings.ends_when_empty
            && scope != Scope::Loaded
            && observed.look_again_in.is_none()
        {
            self.empty_claims += 1;
        }
        (self.empty_claims >= EMPTY_CLAIMS)
            .then_some(Plan::Finish("--drain: nothing left to claim"))
    }

    /// Chooses the next claim.
    fn choose(&mut self, observed: &Observed) -> NextClaim {
        // In an outage one job is enough to find out whether it is over.
        let limit = if observed.has_outage { 1 } else { self.limit };
        self.limit = limit.min(observed.jobs_left);
        let crowded = observed.crowded.as_deref();
        let choice = (self.turns).choose(crowded, &self.settings.models, observed.now);
        // While crowded each other model costs a load, and a loaded model its memory.
        let limit = match choice.scope {
            Scope::AllWhileCrowded => 1,
            Scope::All | Scope::Loaded => self.limit,
        };
        let places_min = if self.has_backlog {
            self.settings.places.div_ceil(BACKLOG_SHARE).min(limit)
        } else {
            1
        };
        NextClaim {
            choice,
            chosen_at: observed.now,
            places_min,
            limit,
        }
    }

    /// What the chosen claim still has to wait for.
    fn wait_before(&self, next: &NextClaim, observed: &Observed) -> Option<Wait> {
        if !observed.is_registered {
            return Some(Wait::Registration);
        }
        if next.choice.scope == Scope::AllWhileCrowded && observed.held_jobs > 0 {
            // The held jobs have their models now, and may lose one to the new job.
            return Some(Wait::NoHeldJobs);
        }
        let gathers = !self.has_backlog && next.limit == CLAIM_MAX;
        let gathered_for = observed.now.saturating_sub(next.chosen_at);
        if gathers && gathered_for < GATHER_TIME {
            let enough = (self.settings.places - self.settings.busy_jobs).min(CLAIM_MAX);
            let time_left = GATHER_TIME.saturating_sub(gathered_for);
            return (observed.free_places < enough)
                .then_some(Wait::FreePlaces(enough, Some(time_left)));
        }
        (observed.free_places < next.places_min).then_some(Wait::FreePlaces(next.places_min, None))
    }
}

#[cfg(test)]
mod tests;
