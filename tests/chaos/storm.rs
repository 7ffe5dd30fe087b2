//! Faults in the order of the seed: two at a time, each kind before any comes again.

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
    arena::Arena,
    faults::{Fault, all_half_open, kill},
    history::History,
    photos::Photos,
};

/// How often each kind struck, and how often it met what it waited for.
type Tally = Arc<Mutex<BTreeMap<String, (u32, u32)>>>;

/// Before the end of submits, so that every process is at work.
const LAST_ACT: Duration = Duration::from_secs(8);

/// Returns when time is up and all is healed.
pub async fn rage(arena: &Arc<Arena>, history: &Arc<History>, seed: u64, until: Instant) -> Value {
    let tally = Tally::default();
    let last = until.checked_sub(LAST_ACT).expect("a run is longer");
    let lane = |number, kinds| {
        let dice = StdRng::seed_from_u64(seed.wrapping_add(number));
        strike(arena, history, kinds, dice, last, tally.clone())
    };
    tokio::join!(
        lane(1, Fault::PROCESSES.to_vec()),
        lane(2, Fault::SURROUNDINGS.to_vec())
    );
    arena.heal();
    let stuck = all_half_open(arena).await;
    history.phase(&format!(
        "{stuck} processes have half-open connections to Postgres"
    ));
    let tally = tally.lock().unwrap();
    let tally = tally
        .iter()
        .map(|(name, (struck, met))| (name.clone(), json!([struck, met])));
    tally.collect::<serde_json::Map<_, _>>().into()
}

async fn strike(
    arena: &Arena,
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
            // A fault that hangs is a fault of ours: Postgres does not start again, for one.
            let struck = timeout(Duration::from_mins(1), fault.strike(arena, &mut dice)).await;
            let met = struck.expect("a fault ends");
            history.phase(&format!(
                "{name}{}",
                if met { "" } else { ": its moment did not come" }
            ));
            let mut tally = tally.lock().unwrap();
            let (struck, times_met) = tally.entry(name).or_default();
            *struck += 1;
            *times_met += u32::from(met);
        }
    }
}

/// From now on whoever claims the job over that image dies: the image's digest comes with the claim.
pub fn poison(arena: &Arena, photos: &Photos) -> Vec<JoinHandle<()>> {
    let sha256 = jobs::Sha256Digest::of(&photos.poison.bytes);
    let deaths = arena.workers.iter().map(|worker| {
        let (worker, sha256) = (worker.clone(), sha256.as_bytes().to_vec());
        let told = On::Told(sha256);
        let mut died = worker.postgres.arm(told.clone(), kill(&worker));
        tokio::spawn(async move {
            loop {
                let _ = died.await;
                died = worker.postgres.arm(told.clone(), kill(&worker));
            }
        })
    });
    deaths.collect()
}
