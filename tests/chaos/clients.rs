//! Clients as they should be: they retry what they do not know, with the key they gave it, and believe what they were told.

mod following;
mod sending;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{arena::Arena, history::History, photos::Photos, plans};

pub use self::following::Job;

const CLIENTS: u64 = 5;
/// Jobs of one client that have not ended: more would only make the drain long.
const OPEN_MAX: usize = 10;

/// Whoever is at work, and the word that all faults are healed.
#[derive(Debug)]
pub struct Clients {
    at_work: Vec<JoinHandle<Vec<Job>>>,
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

/// They submit until then, and follow their jobs to the end.
pub fn start(
    arena: &Arena,
    photos: &Arc<Photos>,
    history: &Arc<History>,
    seed: u64,
    until: Instant,
) -> Clients {
    let healed = watch::Sender::new(None);
    let at_work = (0..CLIENTS).map(|number| {
        let client = Client::new(arena, photos, history, number, healed.subscribe());
        let dice = StdRng::seed_from_u64(seed.wrapping_mul(CLIENTS).wrapping_add(number));
        tokio::spawn(client.work(dice, until, number == 0))
    });
    Clients {
        at_work: at_work.collect(),
        healed,
    }
}

/// Waits for all of them; false when some gave up.
pub async fn finish(clients: Clients, longest: Duration) -> (Vec<Job>, bool) {
    clients.healed.send_replace(Some(Instant::now() + longest));
    let jobs: Vec<Job> = join_all(clients.at_work)
        .await
        .into_iter()
        .flat_map(|jobs| jobs.expect("a client does not panic"))
        .collect();
    let drained = jobs.iter().all(|job| job.ended.is_some());
    (jobs, drained)
}

/// Every job once more, through the API: terminal is final.
pub async fn read_again(
    arena: &Arena,
    photos: &Arc<Photos>,
    history: &Arc<History>,
    jobs: &mut [Job],
) {
    let (_healed, receiver) = watch::channel(None);
    let client = Client::new(arena, photos, history, CLIENTS, receiver);
    for job in jobs {
        for front in 0..client.fronts.len() {
            client.look(job, front, None).await;
        }
    }
}

impl Client {
    fn new(
        arena: &Arena,
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
            fronts: arena.fronts(),
            key: arena.key.clone(),
            photos: photos.clone(),
            history: history.clone(),
            healed,
        }
    }

    async fn work(self, mut dice: StdRng, until: Instant, poisons: bool) -> Vec<Job> {
        let mut jobs = vec![];
        if poisons {
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
                // Now and then one that has ended, too: terminal is final.
                let index = if open.is_empty() || dice.random_bool(0.1) {
                    dice.random_range(0..jobs.len())
                } else {
                    open[dice.random_range(0..open.len())]
                };
                self.follow(&mut jobs[index], &mut dice).await;
            }
            sleep(Duration::from_millis(dice.random_range(20..120))).await;
        }
        while !self.gives_up() && jobs.iter().any(|job| job.ended.is_none()) {
            for job in jobs.iter_mut().filter(|job| job.ended.is_none()) {
                self.follow(job, &mut dice).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
        jobs
    }

    /// Whether the time after the healing is over, too.
    fn gives_up(&self) -> bool {
        self.healed.borrow().is_some_and(|at| Instant::now() > at)
    }
}
