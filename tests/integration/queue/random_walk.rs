//! Random verbs in random order are compared with a small model of the state diagram (I3, I5, I6, I10).
//!
//! A failure prints the seed and the shortest failing walk; `PROPTEST_RNG_SEED` repeats the walk.

mod endings;

use std::collections::BTreeMap;

use jobs::{
    JobId, JobState, Problem, ProblemCode, WorkerId,
    models::Resolved,
    queue::{self, CancelOutcome, Lease, QueueError},
};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngSeed, TestRunner},
};
use sqlx::{PgPool, Row};
use tests::{clock, given};

const ATTEMPTS_MAX: i16 = 3;
const INTERRUPTIONS_MAX: i16 = 2;

#[derive(Debug, Clone)]
enum Step {
    Enqueue(u8),
    Register,
    Claim(Index, u16),
    Heartbeat(Index),
    Deregister(Index),
    LeaseRunsOut(Index),
    // These four verbs use any lease of the whole walk; most leases are stale.
    Complete(Index),
    Fail(Index),
    Retry(Index),
    Release(Index),
    Cancel(Index),
    AttemptRunsTooLong(Index),
    DeadlinePasses(Index),
    ComesDue(Index),
    Rescue,
    TimeOut,
    Expire,
    Promote,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        3 => (1..4_u8).prop_map(Step::Enqueue),
        2 => Just(Step::Register),
        6 => (index(), 1..4_u16).prop_map(|(worker, limit)| Step::Claim(worker, limit)),
        1 => index().prop_map(Step::Heartbeat),
        1 => index().prop_map(Step::Deregister),
        2 => index().prop_map(Step::LeaseRunsOut),
        3 => index().prop_map(Step::Complete),
        2 => index().prop_map(Step::Fail),
        4 => index().prop_map(Step::Retry),
        4 => index().prop_map(Step::Release),
        2 => index().prop_map(Step::Cancel),
        2 => index().prop_map(Step::AttemptRunsTooLong),
        1 => index().prop_map(Step::DeadlinePasses),
        3 => index().prop_map(Step::ComesDue),
        3 => Just(Step::Rescue),
        2 => Just(Step::TimeOut),
        1 => Just(Step::Expire),
        3 => Just(Step::Promote),
    ]
}

/// The columns that the database must show for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    state: JobState,
    lease_no: i32,
    worker: Option<WorkerId>,
    started: i16,
    charged: i16,
    interruptions: i16,
    cancel_requested: bool,
}

/// The times of a job that have passed.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    attempt_is_over: bool,
    deadline_is_over: bool,
    is_due: bool,
}

struct Walk<'a> {
    db: &'a PgPool,
    model: &'a Resolved,
    jobs: BTreeMap<JobId, (Expected, Clock)>,
    workers: Vec<(WorkerId, bool)>,
    leases: Vec<Lease>,
}

fn fault() -> Problem {
    Problem::new(ProblemCode::ModelError, "made up")
}

impl Expected {
    fn end(&mut self, state: JobState) {
        let canceled = self.cancel_requested;
        self.state = if canceled { JobState::Canceled } else { state };
        (self.worker, self.cancel_requested) = (None, false);
    }

    fn give_back(&mut self, state: JobState) {
        (self.state, self.worker) = (state, None);
        self.lease_no += 1;
    }
}

impl Walk<'_> {
    fn worker(&self, index: Index) -> Option<usize> {
        (!self.workers.is_empty()).then(|| index.index(self.workers.len()))
    }

    fn job(&self, index: Index) -> Option<JobId> {
        let ids: Vec<_> = self.jobs.keys().copied().collect();
        (!ids.is_empty()).then(|| *index.get(&ids))
    }

    /// Any lease of the walk, with its job if the lease is still valid.
    fn lease(&mut self, index: Index) -> Option<(Lease, Option<&mut (Expected, Clock)>)> {
        if self.leases.is_empty() {
            return None;
        }
        let lease = *index.get(&self.leases);
        let job = self.jobs.get_mut(&lease.job_id);
        let valid = job
            .filter(|(job, _)| job.state == JobState::Running && job.lease_no == lease.lease_no.0);
        Some((lease, valid))
    }

    async fn run_step(&mut self, step: &Step) -> Result<(), QueueError> {
        let db = self.db;
        match step {
            Step::Enqueue(_) | Step::Cancel(_) => self.client_step(step).await,
            Step::Complete(index)
            | Step::Fail(index)
            | Step::Retry(index)
            | Step::Release(index) => self.outcome_step(step, *index).await,
            Step::Register
            | Step::Claim(..)
            | Step::Heartbeat(_)
            | Step::Deregister(_)
            | Step::LeaseRunsOut(_) => self.worker_step(step).await,
            Step::AttemptRunsTooLong(index) => {
                let Some(id) = self.job(*index) else {
                    return Ok(());
                };
                let (job, clock) = self.jobs.get_mut(&id).unwrap();
                if job.state == JobState::Running {
                    clock::attempt_ran_too_long(db, id).await;
                    clock.attempt_is_over = true;
                }
                Ok(())
            }
            Step::DeadlinePasses(index) => {
                let Some(id) = self.job(*index) else {
                    return Ok(());
                };
                let (job, clock) = self.jobs.get_mut(&id).unwrap();
                if !job.state.is_terminal() {
                    clock::deadline_passed(db, id).await;
                    clock.deadline_is_over = true;
                }
                Ok(())
            }
            Step::ComesDue(index) => {
                let Some(id) = self.job(*index) else {
                    return Ok(());
                };
                let (job, clock) = self.jobs.get_mut(&id).unwrap();
                if job.state == JobState::Scheduled {
                    clock::came_due(db, id).await;
                    clock.is_due = true;
                }
                Ok(())
            }
            Step::Rescue | Step::TimeOut | Step::Expire | Step::Promote => {
                self.housekeeping_step(step).await
            }
        }
    }

    async fn client_step(&mut self, step: &Step) -> Result<(), QueueError> {
        match step {
            Step::Enqueue(count) => {
                let new: Vec<_> = (0..*count)
                    .map(|_| queue::NewJob {
                        attempts_max: ATTEMPTS_MAX,
                        interruptions_max: INTERRUPTIONS_MAX,
                        ..given::job(self.model, "any")
                    })
                    .collect();
                queue::enqueue(self.db, &new).await?;
                for job in new {
                    let queued = Expected {
                        state: JobState::Queued,
                        lease_no: 0,
                        worker: None,
                        started: 0,
                        charged: 0,
                        interruptions: 0,
                        cancel_requested: false,
                    };
                    self.jobs.insert(job.id, (queued, Clock::default()));
                }
            }
            Step::Cancel(index) => {
                let Some(id) = self.job(*index) else {
                    return Ok(());
                };
                let canceled = queue::cancel(self.db, id, Some(given::OWNER)).await?;
                let (job, _) = self.jobs.get_mut(&id).unwrap();
                let expected = match job.state {
                    JobState::Queued | JobState::Scheduled => {
                        job.end(JobState::Canceled);
                        CancelOutcome::AtOnce
                    }
                    JobState::Running => {
                        job.cancel_requested = true;
                        CancelOutcome::Requested
                    }
                    terminal => CancelOutcome::Terminal(terminal),
                };
                assert_eq!(canceled, expected);
            }
            _ => unreachable!(),
        }
        Ok(())
    }

    async fn worker_step(&mut self, step: &Step) -> Result<(), QueueError> {
        let db = self.db;
        match step {
            Step::Register => {
                let id = given::worker(db, "w").await;
                assert!(self.workers.iter().all(|(known, _)| *known != id));
                self.workers.push((id, true));
            }
            Step::Claim(index, limit) => {
                let Some(worker) = self.worker(*index) else {
                    return Ok(());
                };
                let (id, alive) = self.workers[worker];
                let claims = tests::claiming::claim(db, id, &[], *limit).await?;
                let waiting = self.jobs.values().filter(|(job, clock)| {
                    job.state == JobState::Queued && !clock.deadline_is_over
                });
                let most = if alive {
                    waiting.count().min(usize::from(*limit))
                } else {
                    0
                };
                assert_eq!(claims.len(), most, "worker {id} alive={alive}");
                for claim in claims {
                    let (job, clock) = self.jobs.get_mut(&claim.lease.job_id).unwrap();
                    assert_eq!(job.state, JobState::Queued);
                    (job.state, job.worker) = (JobState::Running, Some(id));
                    job.lease_no += 1;
                    job.started += 1;
                    clock.attempt_is_over = false;
                    assert_eq!(claim.lease.lease_no.0, job.lease_no);
                    assert_eq!(claim.attempt, job.started);
                    self.leases.push(claim.lease);
                }
            }
            Step::Heartbeat(index) => {
                let Some(worker) = self.worker(*index) else {
                    return Ok(());
                };
                let (id, alive) = self.workers[worker];
                match queue::heartbeat(db, id, 60.0).await {
                    Ok(heartbeat) => {
                        assert!(alive);
                        let held = self
                            .jobs
                            .iter()
                            .filter(|(_, (job, _))| job.worker == Some(id));
                        let held: Vec<_> = held.map(|(id, (job, _))| (*id, job.lease_no)).collect();
                        let sent = heartbeat.held.iter();
                        let sent: Vec<_> = sent.map(|one| (one.job_id, one.lease_no.0)).collect();
                        assert_eq!(sent, held);
                    }
                    Err(QueueError::LeaseLost) => assert!(!alive),
                    Err(error) => return Err(error),
                }
            }
            Step::Deregister(index) => {
                let Some(worker) = self.worker(*index) else {
                    return Ok(());
                };
                queue::deregister(db, self.workers[worker].0).await?;
                self.workers[worker].1 = false;
            }
            Step::LeaseRunsOut(index) => {
                let Some(worker) = self.worker(*index) else {
                    return Ok(());
                };
                clock::lease_ran_out(db, self.workers[worker].0).await;
                self.workers[worker].1 = false;
            }
            _ => unreachable!(),
        }
        Ok(())
    }

    async fn check(&self) {
        let rows = sqlx::query(
            "select job_id, state, lease_no, worker_id, attempts_started, attempts_charged, interruptions, cancel_requested from live_jobs
             union all
             select job_id, state, lease_no, null, attempts_started, attempts_charged, interruptions, false from finished_jobs",
        )
        .fetch_all(self.db)
        .await
        .unwrap();
        let mut found = BTreeMap::new();
        for row in rows {
            let job = Expected {
                state: row.get("state"),
                lease_no: row.get("lease_no"),
                worker: row.get("worker_id"),
                started: row.get("attempts_started"),
                charged: row.get("attempts_charged"),
                interruptions: row.get("interruptions"),
                cancel_requested: row.get("cancel_requested"),
            };
            let id = JobId::from(row.get::<uuid::Uuid, _>("job_id"));
            assert!(found.insert(id, job).is_none(), "{id} is live and finished");
        }
        let expected: BTreeMap<_, _> = self
            .jobs
            .iter()
            .map(|(id, (job, _))| (*id, job.clone()))
            .collect();
        assert_eq!(found, expected);
    }
}

async fn walk(db: &PgPool, model: &Resolved, steps: &[Step]) {
    sqlx::raw_sql("truncate live_jobs, finished_jobs, attempts, workers, lanes")
        .execute(db)
        .await
        .unwrap();
    let mut walk = Walk {
        db,
        model,
        jobs: BTreeMap::new(),
        workers: Vec::new(),
        leases: Vec::new(),
    };
    for step in steps {
        let before: BTreeMap<_, _> = walk
            .jobs
            .iter()
            .map(|(id, (job, _))| (*id, job.clone()))
            .collect();
        walk.run_step(step).await.unwrap();
        walk.check().await;
        for (id, was) in before {
            let (is, _) = &walk.jobs[&id];
            assert!(is.lease_no >= was.lease_no, "{id} by {step:?}");
            assert!(!was.state.is_terminal() || *is == was, "{id} by {step:?}");
        }
    }
    // `ops.attempts` must list each attempt exactly once.
    let numbered: i64 = sqlx::query_scalar(
        "select count(*) from ops.jobs j where (select array_agg(number::int order by number) from ops.attempts a where a.job_id = j.job_id)
             is distinct from (select array_agg(n order by n) from generate_series(1, j.attempts_started) n)",
    )
    .fetch_one(db)
    .await
    .unwrap();
    assert_eq!(numbered, 0, "jobs with a missing or duplicate attempt");
}

#[test]
fn random_verbs_agree_with_the_state_diagram() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (db, model) = runtime.block_on(async {
        let db = given::database().await;
        let model = given::model_version(&db, given::MODEL).await;
        (db, model)
    });
    let seed = std::env::var("PROPTEST_RNG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| JobId::now().uuid().as_u64_pair().1);
    let mut runner = TestRunner::new(Config {
        cases: 24,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let walks = proptest::collection::vec(step(), 20..80);
    let outcome = runner.run(&walks, |steps| {
        runtime.block_on(walk(&db, &model, &steps));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("PROPTEST_RNG_SEED={seed}\n{error}");
    }
}
