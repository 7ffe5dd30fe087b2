//! Everything that can fail, one by one. Each heals what it broke.

use std::{sync::Arc, time::Duration};

use local::Signal;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use tests::proxy::{Deed, On, Proxy, Then, Weather, deed};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    arena::{Arena, BUCKET, LEASE},
    clocks::WRONG_BY_SECONDS,
    disks::Disk,
    member::Member,
};

/// Words of the statements that faults wait for.
mod words {
    pub const ENQUEUE: &str = "insert into live_jobs";
    pub const CLAIM: &str = "set state = 'running'";
    pub const COMPLETE: &str = "from settle(";
    pub const HEARTBEAT: &str = "update workers set lease_until";
    pub const SUBMIT: &str = "POST /v1/jobs";
    pub const PUT: &str = "PUT /darkroom/images/";
    pub const GET: &str = "GET /darkroom/images/";
}
const _: () = assert!(
    BUCKET.len() == "darkroom".len(),
    "the words name the bucket"
);

/// How long a fault waits for its moment to come by.
const MOMENT_MAX: Duration = Duration::from_secs(6);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    WorkerKilled,
    WorkerKilledAsItClaims,
    WorkerKilledInferring,
    WorkerKilledBeforeCompletion,
    WorkerKilledAfterCompletion,
    WorkerFrozen,
    WorkerFrozenBeforeCompletion,
    WorkerDrained,
    WorkersGone,
    ClockJumps,
    ApiKilled,
    ApiKilledBetweenPutAndInsert,
    ApiKilledBeforeInsert,
    ApiKilledAfterInsert,
    ApiDrained,
    PostgresRestarted,
    PostgresKilled,
    PostgresSlow,
    PostgresHalfOpen,
    PostgresDeaf,
    PostgresMute,
    PostgresDiskFull,
    ResetInCommitOfEnqueue,
    ResetInCommitOfClaim,
    ResetInCommitOfCompletion,
    ResetInCommitOfHeartbeat,
    HalfOpenInCommitOfEnqueue,
    HalfOpenInCommitOfClaim,
    HalfOpenInCommitOfCompletion,
    ListenersCut,
    S3Errors,
    S3Slow,
    S3Cut,
    S3WrongBytes,
    S3Killed,
    S3HalfOpen,
    S3DiskFull,
    AnswersLost,
    ClientsCut,
}

impl Fault {
    /// Of processes: one at a time.
    pub const PROCESSES: [Self; 15] = [
        Self::WorkerKilled,
        Self::WorkerKilledAsItClaims,
        Self::WorkerKilledInferring,
        Self::WorkerKilledBeforeCompletion,
        Self::WorkerKilledAfterCompletion,
        Self::WorkerFrozen,
        Self::WorkerFrozenBeforeCompletion,
        Self::WorkerDrained,
        Self::WorkersGone,
        Self::ClockJumps,
        Self::ApiKilled,
        Self::ApiKilledBetweenPutAndInsert,
        Self::ApiKilledBeforeInsert,
        Self::ApiKilledAfterInsert,
        Self::ApiDrained,
    ];
    /// Of stores and networks: one at a time, beside the processes'.
    pub const SURROUNDINGS: [Self; 24] = [
        Self::PostgresRestarted,
        Self::PostgresKilled,
        Self::PostgresSlow,
        Self::PostgresHalfOpen,
        Self::PostgresDeaf,
        Self::PostgresMute,
        Self::PostgresDiskFull,
        Self::ResetInCommitOfEnqueue,
        Self::ResetInCommitOfClaim,
        Self::ResetInCommitOfCompletion,
        Self::ResetInCommitOfHeartbeat,
        Self::HalfOpenInCommitOfEnqueue,
        Self::HalfOpenInCommitOfClaim,
        Self::HalfOpenInCommitOfCompletion,
        Self::ListenersCut,
        Self::S3Errors,
        Self::S3Slow,
        Self::S3Cut,
        Self::S3WrongBytes,
        Self::S3Killed,
        Self::S3HalfOpen,
        Self::S3DiskFull,
        Self::AnswersLost,
        Self::ClientsCut,
    ];

    /// Strikes, and heals; whether it met what it waited for.
    #[allow(clippy::too_many_lines, reason = "one arm a fault, side by side")]
    pub async fn strike(self, arena: &Arena, dice: &mut StdRng) -> bool {
        let worker = arena
            .workers
            .choose(dice)
            .expect("there are workers")
            .clone();
        let api = arena.apis.choose(dice).expect("there are APIs").clone();
        let member = if dice.random_bool(0.5) { &worker } else { &api };
        let killed_at = |on| kills(&worker, on);
        match self {
            Self::WorkerKilled => worker.kill(),
            Self::WorkerKilledAsItClaims => {
                return meets(killed_at(On::Answered(words::CLAIM))).await;
            }
            Self::WorkerKilledInferring => {
                // Shortly after it has its image.
                let later = Duration::from_millis(dice.random_range(0..60));
                let victim = worker.clone();
                let act = deed(move || async move {
                    tokio::spawn(async move {
                        sleep(later).await;
                        victim.kill();
                    });
                    Then::Forward
                });
                return meets(worker.s3.arm(On::Answered(words::GET), act)).await;
            }
            Self::WorkerKilledBeforeCompletion => {
                return meets(killed_at(On::Asked(words::COMPLETE))).await;
            }
            Self::WorkerKilledAfterCompletion => {
                return meets(killed_at(On::Answered(words::COMPLETE))).await;
            }
            Self::WorkerFrozen => frozen(worker).await,
            Self::WorkerFrozenBeforeCompletion => {
                // What it has to write arrives when its jobs are others' long since.
                let victim = worker.clone();
                let act = deed(move || async move {
                    frozen(victim).await;
                    Then::Forward
                });
                let met = worker.postgres.arm(On::Asked(words::COMPLETE), act);
                return timeout(MOMENT_MAX + 3 * LEASE, met).await.is_ok();
            }
            Self::WorkerDrained => worker.signal(Signal::SIGTERM),
            Self::WorkersGone => workers_gone(arena, dice).await,
            Self::ClockJumps => {
                let wrong_by = dice.random_range(-WRONG_BY_SECONDS..=WRONG_BY_SECONDS);
                return member.clock_jumps(wrong_by);
            }
            Self::ApiKilled => api.kill(),
            Self::ApiKilledBetweenPutAndInsert => {
                let met = api.s3.arm(On::Answered(words::PUT), kill(&api));
                return meets(met).await;
            }
            Self::ApiKilledBeforeInsert => {
                return meets(kills(&api, On::Asked(words::ENQUEUE))).await;
            }
            Self::ApiKilledAfterInsert => {
                return meets(kills(&api, On::Answered(words::ENQUEUE))).await;
            }
            Self::ApiDrained => api.signal(Signal::SIGTERM),
            Self::PostgresRestarted => arena.restart_postgres(false).await,
            Self::PostgresKilled => arena.restart_postgres(true).await,
            Self::PostgresSlow => {
                let delay = Duration::from_millis(dice.random_range(10..80));
                let slow = Weather {
                    delay,
                    ..Weather::FAIR
                };
                arena.members().for_each(|member| member.postgres.set(slow));
                sleep(Duration::from_secs(3)).await;
                arena
                    .members()
                    .for_each(|member| member.postgres.set(Weather::FAIR));
            }
            Self::PostgresHalfOpen => return stranded(&member.postgres).await,
            Self::PostgresDeaf => {
                // Nothing reaches it for more than a lease; then everything does, late.
                let deaf = Weather {
                    to_server: false,
                    ..Weather::FAIR
                };
                member.postgres.set(deaf);
                sleep(LEASE + Duration::from_millis(dice.random_range(0..2_000))).await;
                member.postgres.set(Weather::FAIR);
            }
            Self::PostgresMute => {
                let mute = Weather {
                    to_client: false,
                    ..Weather::FAIR
                };
                member.postgres.set(mute);
                sleep(LEASE + Duration::from_millis(dice.random_range(0..2_000))).await;
                member.postgres.cut();
                member.postgres.set(Weather::FAIR);
            }
            Self::PostgresDiskFull => {
                return full(arena.disks.as_ref().map(|disks| &disks.tables)).await;
            }
            Self::ResetInCommitOfEnqueue => return reset(&api, words::ENQUEUE).await,
            Self::ResetInCommitOfClaim => return reset(&worker, words::CLAIM).await,
            Self::ResetInCommitOfCompletion => return reset(&worker, words::COMPLETE).await,
            Self::ResetInCommitOfHeartbeat => return reset(&worker, words::HEARTBEAT).await,
            Self::HalfOpenInCommitOfEnqueue => return meets(half_open(&api, words::ENQUEUE)).await,
            Self::HalfOpenInCommitOfClaim => return meets(half_open(&worker, words::CLAIM)).await,
            Self::HalfOpenInCommitOfCompletion => {
                return meets(half_open(&worker, words::COMPLETE)).await;
            }
            Self::ListenersCut => {
                let cut = arena
                    .members()
                    .map(|member| member.postgres.cut_listeners());
                return cut.sum::<usize>() > 0;
            }
            Self::S3Errors => s3(arena, dice, "error", 0.5).await,
            Self::S3Slow => s3(arena, dice, "slow", 0.5).await,
            Self::S3Cut => s3(arena, dice, "cut", 0.4).await,
            Self::S3WrongBytes => s3(arena, dice, "wrong_bytes", 0.7).await,
            Self::S3Killed => arena.restart_s3(Duration::from_secs(1)).await,
            Self::S3HalfOpen => return stranded(&member.s3).await,
            Self::S3DiskFull => {
                return full(arena.disks.as_ref().map(|disks| &disks.objects)).await;
            }
            Self::AnswersLost => return answers_lost(arena).await,
            Self::ClientsCut => {
                let fronts = arena.apis.iter().filter_map(|api| api.front.as_ref());
                fronts.for_each(tests::proxy::Proxy::cut);
            }
        }
        true
    }
}

async fn meets(moment: oneshot::Receiver<()>) -> bool {
    timeout(MOMENT_MAX, moment).await.is_ok()
}

/// At this word with Postgres.
fn kills(victim: &Arc<Member>, on: On) -> oneshot::Receiver<()> {
    victim.postgres.arm(on, kill(victim))
}

pub fn kill(victim: &Arc<Member>) -> Deed {
    let victim = victim.clone();
    deed(|| async move {
        victim.kill();
        Then::Cut
    })
}

/// The statement was executed, and its sender never learns.
async fn reset(whose: &Arc<Member>, words: &'static str) -> bool {
    let act = deed(|| async { Then::Cut });
    meets(whose.postgres.arm(On::Answered(words), act)).await
}

/// The statement is executed, no answer comes, and no end of the connection either; nor for its neighbours.
fn half_open(whose: &Arc<Member>, words: &'static str) -> oneshot::Receiver<()> {
    let victim = whose.clone();
    let act = deed(|| async move {
        victim.postgres.strand();
        Then::Forward
    });
    whose.postgres.arm(On::Answered(words), act)
}

/// The last of all: every process loses Postgres in the middle of its work without being told. Nobody starts it again.
pub async fn all_half_open(arena: &Arena) -> usize {
    let apis = arena.apis.iter().map(|api| half_open(api, words::ENQUEUE));
    let workers = arena
        .workers
        .iter()
        .map(|worker| half_open(worker, words::COMPLETE));
    let moments: Vec<_> = apis.chain(workers).collect();
    let mut met = 0;
    for moment in moments {
        met += usize::from(meets(moment).await);
    }
    met
}

/// As soon as there is a connection to strand.
async fn stranded(network: &Proxy) -> bool {
    let until = Instant::now() + MOMENT_MAX;
    while network.strand() == 0 {
        if Instant::now() > until {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}

async fn frozen(victim: Arc<Member>) {
    victim.signal(Signal::SIGSTOP);
    sleep(2 * LEASE + Duration::from_millis(500)).await;
    victim.signal(Signal::SIGCONT);
}

async fn full(disk: Option<&Disk>) -> bool {
    let Some(disk) = disk else { return false };
    // It may have grown since it was measured.
    while disk.fill().is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(4)).await;
    disk.free();
    true
}

async fn workers_gone(arena: &Arena, dice: &mut StdRng) {
    let politely = dice.random_bool(0.5);
    for worker in &arena.workers {
        worker.wanted(false);
        worker.signal(if politely {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        });
    }
    sleep(LEASE + Duration::from_secs(2)).await;
    arena.workers.iter().for_each(|worker| worker.wanted(true));
}

async fn s3(arena: &Arena, dice: &mut StdRng, trouble: &str, likely: f64) {
    let seed: u64 = dice.random();
    arena.s3_faults(Some(
        &json!({ "seed": seed, trouble: likely, "slow_ms": 700 }),
    ));
    sleep(Duration::from_secs(3)).await;
    arena.s3_faults(None);
}

async fn answers_lost(arena: &Arena) -> bool {
    let fronts = arena.apis.iter().filter_map(|api| api.front.as_ref());
    let lost: Vec<_> = fronts
        .flat_map(|front| {
            (0..2).map(|_| front.arm(On::Answered(words::SUBMIT), deed(|| async { Then::Cut })))
        })
        .collect();
    let mut met = false;
    for moment in lost {
        met |= meets(moment).await;
    }
    met
}
