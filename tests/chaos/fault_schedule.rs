//! Injects faults in the order of the seed: two at a time, each kind once before any kind comes again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};
use tests::proxy::On;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    cluster::Cluster,
    faults::{Fault, kill_action, make_all_half_open},
    history::History,
    photos::Photos,
};

/// For each kind: how often it was injected, and how often the message came that it waited for.
type Tally = Arc<Mutex<BTreeMap<String, (u32, u32)>>>;

/// The last fault comes this long before the end of submits, so that every process still works.
const LAST_FAULT_BEFORE_END: Duration = Duration::from_secs(8);

/// Injects faults until shortly before `until`, and heals them. Returns the tally as JSON.
pub async fn inject_faults(
    cluster: &Arc<Cluster>,
    history: &Arc<History>,
    seed: u64,
    until: Instant,
) -> Value {
    let tally = Tally::default();
    let last = until
        .checked_sub(LAST_FAULT_BEFORE_END)
        .expect("a run takes longer than LAST_FAULT_BEFORE_END");
    let lane = |number, kinds| {
        let dice = StdRng::seed_from_u64(seed.wrapping_add(number));
        inject(cluster, history, kinds, dice, last, tally.clone())
    };
    tokio::join!(
        lane(1, Fault::PROCESSES.to_vec()),
        lane(2, Fault::SURROUNDINGS.to_vec())
    );
    cluster.heal();
    let stuck = make_all_half_open(cluster).await;
    history.phase(&format!(
        "{stuck} processes have half-open connections to Postgres"
    ));
    let tally = tally.lock().unwrap();
    let tally = tally
        .iter()
        .map(|(name, (injected, met))| (name.clone(), json!([injected, met])));
    tally.collect::<serde_json::Map<_, _>>().into()
}

async fn inject(
    cluster: &Cluster,
    history: &History,
    mut kinds: Vec<Fault>,
    mut dice: StdRng,
    until: Instant,
    tally: Tally,
) {
    loop {
        kinds.shuffle(&mut dice);
        for fault in &kinds {
            sleep(Duration::from_millis(dice.random_range(200..1_500))).await;
            if Instant::now() >= until {
                return;
            }
            let name = format!("{fault:?}");
            history.note("strikes", &json!(name));
            // A fault that hangs is an error of the harness, e.g. Postgres does not start again.
            let injected = timeout(Duration::from_mins(1), fault.inject(cluster, &mut dice)).await;
            let met = injected.expect("a fault took more than a minute");
            history.phase(&format!(
                "{name}{}",
                if met { "" } else { ": its moment did not come" }
            ));
            let mut tally = tally.lock().unwrap();
            let (injected, times_met) = tally.entry(name).or_default();
            *injected += 1;
            *times_met += u32::from(met);
        }
    }
}

/// Kills every worker that claims the poison image. The trigger is the image's digest in the answer to the claim.
pub fn kill_poisoned_workers(cluster: &Cluster, photos: &Photos) -> Vec<JoinHandle<()>> {
    let sha256 = jobs::Sha256Digest::of(&photos.poison.bytes);
    let killers = cluster.workers.iter().map(|worker| {
        let (worker, sha256) = (worker.clone(), sha256.as_bytes().to_vec());
        let claimed = On::AnswerContains(sha256);
        let mut died = worker.postgres.arm(claimed.clone(), kill_action(&worker));
        tokio::spawn(async move {
            loop {
                let _ = died.await;
                died = worker.postgres.arm(claimed.clone(), kill_action(&worker));
            }
        })
    });
    killers.collect()
}
