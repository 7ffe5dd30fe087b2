//! All faults. Each fault heals what it broke.

use std::{sync::Arc, time::Duration};

use local::Signal;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use tests::proxy::{Action, NetworkState, On, Proxy, Then, action};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    clocks::WRONG_BY_SECONDS,
    cluster::{Cluster, LEASE},
    disks::Disk,
    member::Member,
    objects::{Damage, damage_for_a_while},
    words,
};

/// How long a fault waits for its message.
const MESSAGE_WAIT_MAX: Duration = Duration::from_secs(6);

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
    DecodersKilled,
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
    PostgresFailsOver,
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
    S3LosesObjects,
    S3ChangesObjects,
    AnswersLost,
    ClientsCut,
}

impl Fault {
    /// Faults of processes. One at a time.
    pub const PROCESSES: [Self; 16] = [
        Self::WorkerKilled,
        Self::WorkerKilledAsItClaims,
        Self::WorkerKilledInferring,
        Self::WorkerKilledBeforeCompletion,
        Self::WorkerKilledAfterCompletion,
        Self::WorkerFrozen,
        Self::WorkerFrozenBeforeCompletion,
        Self::WorkerDrained,
        Self::WorkersGone,
        Self::DecodersKilled,
        Self::ClockJumps,
        Self::ApiKilled,
        Self::ApiKilledBetweenPutAndInsert,
        Self::ApiKilledBeforeInsert,
        Self::ApiKilledAfterInsert,
        Self::ApiDrained,
    ];
    /// Faults of stores and networks. One at a time, beside a fault of processes.
    pub const SURROUNDINGS: [Self; 27] = [
        Self::PostgresRestarted,
        Self::PostgresKilled,
        Self::PostgresSlow,
        Self::PostgresHalfOpen,
        Self::PostgresDeaf,
        Self::PostgresMute,
        Self::PostgresDiskFull,
        Self::PostgresFailsOver,
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
        Self::S3LosesObjects,
        Self::S3ChangesObjects,
        Self::AnswersLost,
        Self::ClientsCut,
    ];

    /// Injects the fault and heals it. Returns whether the message came that the fault waits for.
    #[allow(clippy::too_many_lines, reason = "one arm for each fault")]
    pub async fn inject(self, cluster: &Cluster, dice: &mut StdRng) -> bool {
        let worker = cluster
            .workers
            .choose(dice)
            .expect("there are workers")
            .clone();
        let api = cluster.apis.choose(dice).expect("there are APIs").clone();
        let member = if dice.random_bool(0.5) { &worker } else { &api };
        let killed_at = |on| arm_kill(&worker, on);
        match self {
            Self::WorkerKilled => worker.kill(),
            Self::WorkerKilledAsItClaims => {
                return happens_in_time(killed_at(On::Answered(words::CLAIM))).await;
            }
            Self::WorkerKilledInferring => {
                // Kills the worker shortly after it has fetched its image.
                let later = Duration::from_millis(dice.random_range(0..60));
                let victim = worker.clone();
                let act = action(move || async move {
                    tokio::spawn(async move {
                        sleep(later).await;
                        victim.kill();
                    });
                    Then::Forward
                });
                return happens_in_time(worker.s3.arm(On::Answered(words::GET), act)).await;
            }
            Self::WorkerKilledBeforeCompletion => {
                return happens_in_time(killed_at(On::Asked(words::COMPLETE))).await;
            }
            Self::WorkerKilledAfterCompletion => {
                return happens_in_time(killed_at(On::Answered(words::COMPLETE))).await;
            }
            Self::WorkerFrozen => freeze(worker).await,
            Self::WorkerFrozenBeforeCompletion => {
                // The completion arrives after other workers have claimed the jobs.
                let victim = worker.clone();
                let act = action(move || async move {
                    freeze(victim).await;
                    Then::Forward
                });
                let met = worker.postgres.arm(On::Asked(words::COMPLETE), act);
                return timeout(MESSAGE_WAIT_MAX + 3 * LEASE, met).await.is_ok();
            }
            Self::WorkerDrained => worker.signal(Signal::SIGTERM),
            Self::WorkersGone => stop_all_workers(cluster, dice).await,
            Self::DecodersKilled => {
                // Kills the decoders of the worker shortly after it has fetched its image.
                let later = Duration::from_millis(dice.random_range(0..20));
                let victim = worker.clone();
                let act = action(move || async move {
                    tokio::spawn(async move {
                        sleep(later).await;
                        victim.kill_decoders();
                    });
                    Then::Forward
                });
                return happens_in_time(worker.s3.arm(On::Answered(words::GET), act)).await;
            }
            Self::ClockJumps => {
                let wrong_by = dice.random_range(-WRONG_BY_SECONDS..=WRONG_BY_SECONDS);
                return member.set_clock(wrong_by);
            }
            Self::ApiKilled => api.kill(),
            Self::ApiKilledBetweenPutAndInsert => {
                let met = api.s3.arm(On::Answered(words::PUT), kill_action(&api));
                return happens_in_time(met).await;
            }
            Self::ApiKilledBeforeInsert => {
                return happens_in_time(arm_kill(&api, On::Asked(words::ENQUEUE))).await;
            }
            Self::ApiKilledAfterInsert => {
                return happens_in_time(arm_kill(&api, On::Answered(words::ENQUEUE))).await;
            }
            Self::ApiDrained => api.signal(Signal::SIGTERM),
            Self::PostgresRestarted => cluster.restart_postgres(false).await,
            Self::PostgresKilled => cluster.restart_postgres(true).await,
            Self::PostgresSlow => {
                let delay = Duration::from_millis(dice.random_range(10..80));
                let slow = NetworkState {
                    delay,
                    ..NetworkState::HEALTHY
                };
                cluster
                    .members()
                    .for_each(|member| member.postgres.set(slow));
                sleep(Duration::from_secs(3)).await;
                cluster
                    .members()
                    .for_each(|member| member.postgres.set(NetworkState::HEALTHY));
            }
            Self::PostgresHalfOpen => return strand_connections(&member.postgres).await,
            Self::PostgresDeaf => {
                // Messages to Postgres wait for more than a lease; then all of them arrive.
                let deaf = NetworkState {
                    to_server: false,
                    ..NetworkState::HEALTHY
                };
                member.postgres.set(deaf);
                sleep(LEASE + Duration::from_millis(dice.random_range(0..2_000))).await;
                member.postgres.set(NetworkState::HEALTHY);
            }
            Self::PostgresMute => {
                let mute = NetworkState {
                    to_client: false,
                    ..NetworkState::HEALTHY
                };
                member.postgres.set(mute);
                sleep(LEASE + Duration::from_millis(dice.random_range(0..2_000))).await;
                member.postgres.cut();
                member.postgres.set(NetworkState::HEALTHY);
            }
            Self::PostgresDiskFull => {
                return fill_for_a_while(cluster.disks.as_ref().map(|disks| &disks.tables)).await;
            }
            Self::PostgresFailsOver => {
                cluster.fail_over(true).await;
                sleep(LEASE + Duration::from_millis(dice.random_range(0..2_000))).await;
                cluster.fail_over(false).await;
            }
            Self::ResetInCommitOfEnqueue => return reset_after(&api, words::ENQUEUE).await,
            Self::ResetInCommitOfClaim => return reset_after(&worker, words::CLAIM).await,
            Self::ResetInCommitOfCompletion => return reset_after(&worker, words::COMPLETE).await,
            Self::ResetInCommitOfHeartbeat => return reset_after(&worker, words::HEARTBEAT).await,
            Self::HalfOpenInCommitOfEnqueue => {
                return happens_in_time(half_open(&api, words::ENQUEUE)).await;
            }
            Self::HalfOpenInCommitOfClaim => {
                return happens_in_time(half_open(&worker, words::CLAIM)).await;
            }
            Self::HalfOpenInCommitOfCompletion => {
                return happens_in_time(half_open(&worker, words::COMPLETE)).await;
            }
            Self::ListenersCut => {
                let cut = cluster
                    .members()
                    .map(|member| member.postgres.cut_listeners());
                return cut.sum::<usize>() > 0;
            }
            Self::S3Errors => inject_s3_faults(cluster, dice, "error", 0.5).await,
            Self::S3Slow => inject_s3_faults(cluster, dice, "slow", 0.5).await,
            Self::S3Cut => inject_s3_faults(cluster, dice, "cut", 0.4).await,
            Self::S3WrongBytes => inject_s3_faults(cluster, dice, "wrong_bytes", 0.7).await,
            Self::S3Killed => cluster.restart_s3(Duration::from_secs(1)).await,
            Self::S3HalfOpen => return strand_connections(&member.s3).await,
            Self::S3DiskFull => {
                return fill_for_a_while(cluster.disks.as_ref().map(|disks| &disks.objects)).await;
            }
            Self::S3LosesObjects => {
                return Box::pin(damage_for_a_while(cluster, dice, Damage::Lost)).await;
            }
            Self::S3ChangesObjects => {
                return Box::pin(damage_for_a_while(cluster, dice, Damage::OtherBytes)).await;
            }
            Self::AnswersLost => return lose_answers(cluster).await,
            Self::ClientsCut => {
                let fronts = cluster.apis.iter().filter_map(|api| api.front.as_ref());
                fronts.for_each(tests::proxy::Proxy::cut);
            }
        }
        true
    }
}

async fn happens_in_time(message: oneshot::Receiver<()>) -> bool {
    timeout(MESSAGE_WAIT_MAX, message).await.is_ok()
}

/// Kills the process when this message to Postgres comes.
fn arm_kill(victim: &Arc<Member>, on: On) -> oneshot::Receiver<()> {
    victim.postgres.arm(on, kill_action(victim))
}

pub fn kill_action(victim: &Arc<Member>) -> Action {
    let victim = victim.clone();
    action(|| async move {
        victim.kill();
        Then::Cut
    })
}

/// Resets the connection after Postgres has executed the statement: the process never gets the answer.
async fn reset_after(member: &Arc<Member>, words: &'static str) -> bool {
    let act = action(|| async { Then::Cut });
    happens_in_time(member.postgres.arm(On::Answered(words), act)).await
}

/// Postgres executes the statement, then all connections of the process are half-open: no answer and no reset comes.
fn half_open(member: &Arc<Member>, words: &'static str) -> oneshot::Receiver<()> {
    let victim = member.clone();
    let act = action(|| async move {
        victim.postgres.make_half_open();
        Then::Forward
    });
    member.postgres.arm(On::Answered(words), act)
}

/// The last fault: all connections of every process to Postgres become half-open in the middle of a statement. No process is
/// started again after it. Returns how many processes it met.
pub async fn make_all_half_open(cluster: &Cluster) -> usize {
    let apis = cluster
        .apis
        .iter()
        .map(|api| half_open(api, words::ENQUEUE));
    let workers = cluster
        .workers
        .iter()
        .map(|worker| half_open(worker, words::COMPLETE));
    let messages: Vec<_> = apis.chain(workers).collect();
    let mut met = 0;
    for message in messages {
        met += usize::from(happens_in_time(message).await);
    }
    met
}

/// Makes all connections half-open, once there is at least one.
async fn strand_connections(network: &Proxy) -> bool {
    let until = Instant::now() + MESSAGE_WAIT_MAX;
    while network.make_half_open() == 0 {
        if Instant::now() > until {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}

async fn freeze(victim: Arc<Member>) {
    victim.signal(Signal::SIGSTOP);
    sleep(2 * LEASE + Duration::from_millis(500)).await;
    victim.signal(Signal::SIGCONT);
}

async fn fill_for_a_while(disk: Option<&Disk>) -> bool {
    let Some(disk) = disk else { return false };
    // Retries: the disk may have grown since it was measured.
    while disk.fill().is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(4)).await;
    disk.free();
    true
}

async fn stop_all_workers(cluster: &Cluster, dice: &mut StdRng) {
    let gracefully = dice.random_bool(0.5);
    for worker in &cluster.workers {
        worker.set_wanted(false);
        worker.signal(if gracefully {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        });
    }
    sleep(LEASE + Duration::from_secs(2)).await;
    cluster
        .workers
        .iter()
        .for_each(|worker| worker.set_wanted(true));
}

async fn inject_s3_faults(cluster: &Cluster, dice: &mut StdRng, fault: &str, probability: f64) {
    let seed: u64 = dice.random();
    cluster.s3_faults(Some(
        &json!({ "seed": seed, fault: probability, "slow_ms": 700 }),
    ));
    sleep(Duration::from_secs(3)).await;
    cluster.s3_faults(None);
}

async fn lose_answers(cluster: &Cluster) -> bool {
    let fronts = cluster.apis.iter().filter_map(|api| api.front.as_ref());
    let lost: Vec<_> = fronts
        .flat_map(|front| {
            (0..2).map(|_| front.arm(On::Answered(words::SUBMIT), action(|| async { Then::Cut })))
        })
        .collect();
    let mut met = false;
    for message in lost {
        met |= happens_in_time(message).await;
    }
    met
}
