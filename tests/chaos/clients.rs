//! Well-behaved clients: they retry a submit with unknown outcome under its idempotency key, and check every answer.

mod following;
mod sending;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{cluster::Cluster, history::History, photos::Photos, plans};

pub use self::following::Job;

const CLIENTS: u64 = 5;
/// Unended jobs of one client at most. More jobs would only make the drain longer.
const OPEN_MAX: usize = 10;

/// The running clients, and the channel that tells them when all faults are healed.
#[derive(Debug)]
pub struct Clients {
    running: Vec<JoinHandle<Vec<Job>>>,
    healed: watch::Sender<Option<Instant>>,
}

#[derive(Debug)]
pub struct Client {
    name: String,
    http: reqwest::Client,
    fronts: Vec<String>,
    key: String,
    photos: Arc<Photos>,
    history: Arc<History>,
    healed: watch::Receiver<Option<Instant>>,
}

/// Starts the clients. They submit until `until`, and follow their jobs to the end.
pub fn start(
    cluster: &Cluster,
    photos: &Arc<Photos>,
    history: &Arc<History>,
    seed: u64,
    until: Instant,
) -> Clients {
    let healed = watch::Sender::new(None);
    let running = (0..CLIENTS).map(|number| {
        let client = Client::new(cluster, photos, history, number, healed.subscribe());
        let dice = StdRng::seed_from_u64(seed.wrapping_mul(CLIENTS).wrapping_add(number));
        tokio::spawn(client.work(dice, until, number == 0))
    });
    Clients {
        running: running.collect(),
        healed,
    }
}

/// Waits for all clients, at most `longest`. Returns their jobs, and whether every job has ended.
pub async fn finish(clients: Clients, longest: Duration) -> (Vec<Job>, bool) {
    clients.healed.send_replace(Some(Instant::now() + longest));
    let jobs: Vec<Job> = join_all(clients.running)
        .await
        .into_iter()
        .flat_map(|jobs| jobs.expect("a client panicked"))
        .collect();
    let drained = jobs.iter().all(|job| job.ended.is_some());
    (jobs, drained)
}

/// Reads every job once more through every API: a terminal state is final.
pub async fn read_all_again(
    cluster: &Cluster,
    photos: &Arc<Photos>,
    history: &Arc<History>,
    jobs: &mut [Job],
) {
    let (_healed, receiver) = watch::channel(None);
    let client = Client::new(cluster, photos, history, CLIENTS, receiver);
    for job in jobs {
        for front in 0..client.fronts.len() {
            client.read_job(job, front, None).await;
        }
    }
}

impl Client {
    fn new(
        cluster: &Cluster,
        photos: &Arc<Photos>,
        history: &Arc<History>,
        number: u64,
        healed: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(8))
            .build();
        Self {
            name: format!("client-{number}"),
            http: http.unwrap(),
            fronts: cluster.fronts(),
            key: cluster.key.clone(),
            photos: photos.clone(),
            history: history.clone(),
            healed,
        }
    }

    async fn work(self, mut dice: StdRng, until: Instant, sends_poison: bool) -> Vec<Job> {
        let mut jobs = vec![];
        if sends_poison {
            let plan = plans::poison(&self.photos);
            jobs.extend(self.submit(plan, StdRng::seed_from_u64(0)).await);
        }
        let mut number = 0;
        while Instant::now() < until {
            let open: Vec<usize> = (0..jobs.len())
                .filter(|index: &usize| jobs[*index].ended.is_none())
                .collect();
            if open.len() < OPEN_MAX && dice.random_bool(0.3) {
                number += 1;
                let tag = format!("{}-{number}", self.name);
                let plans = plans::next(&tag, &self.photos, &mut dice);
                let submits = plans.into_iter().map(|plan| {
                    let dice = StdRng::seed_from_u64(dice.random());
                    self.submit(plan, dice)
                });
                let submits: Vec<_> = submits.collect();
                jobs.extend(join_all(submits).await.into_iter().flatten());
            } else if !jobs.is_empty() {
                // Sometimes reads an ended job: a terminal state is final.
                let index = if open.is_empty() || dice.random_bool(0.1) {
                    dice.random_range(0..jobs.len())
                } else {
                    open[dice.random_range(0..open.len())]
                };
                self.follow(&mut jobs[index], &mut dice).await;
            }
            sleep(Duration::from_millis(dice.random_range(20..120))).await;
        }
        while !self.has_given_up() && jobs.iter().any(|job| job.ended.is_none()) {
            for job in jobs.iter_mut().filter(|job| job.ended.is_none()) {
                self.follow(job, &mut dice).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
        jobs
    }

    /// Whether the time for the drain is over.
    fn has_given_up(&self) -> bool {
        self.healed.borrow().is_some_and(|at| Instant::now() > at)
    }
}
