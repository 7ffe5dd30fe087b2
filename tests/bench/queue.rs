//! `bench queue`: compares Darkroom's queue with public queues, on one server, in turns.
//!
//! Every system is a program with a small protocol (`systems.rs`). Every measurement has a new database.

pub(crate) mod driver;
mod measure;
mod systems;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::{
    measure::{Op, Server},
    systems::{DARKROOM, System},
};
use crate::{median, rounded};

/// Options of `bench queue`.
#[derive(Debug)]
pub(crate) struct Options {
    pub rounds: usize,
    /// Jobs of a bulk enqueue and of a drain.
    pub jobs: usize,
    /// Names of known systems. Empty: all installed systems.
    pub systems: Vec<String>,
    /// `NAME=COMMAND`: other programs with the protocol.
    pub peers: Vec<String>,
}

/// A column of `docs/performance/queue.csv`, and whether more is better.
const MEASURES: [(&str, bool); 8] = [
    ("bulk_jobs_per_s", true),
    ("submit_1_jobs_per_s", true),
    ("submit_16_jobs_per_s", true),
    ("submit_64_jobs_per_s", true),
    ("drain_jobs_per_s", true),
    ("drain_100_jobs_per_s", true),
    ("pickup_p50_ms", false),
    ("pickup_p99_ms", false),
];
/// A measure of Darkroom alone: submits beside 100 listeners.
const LISTENED: &str = "submit_16_100_listeners_jobs_per_s";

type Readings = BTreeMap<String, BTreeMap<&'static str, Vec<f64>>>;

/// Measures all systems. They take turns within a round, and another system begins each round. Returns medians.
pub(crate) async fn measure(options: &Options) -> Value {
    let server = Server::connect().await;
    let systems = systems::choose(&options.systems, &options.peers);
    let mut readings = Readings::new();
    for round in 0..options.rounds {
        for op in Op::ALL {
            for turn in 0..systems.len() {
                let system = &systems[(turn + round) % systems.len()];
                if op == Op::SubmitListened && system.name != DARKROOM {
                    continue;
                }
                for (measure, value) in server.run(system, op, options.jobs).await {
                    eprintln!("round {}: {} {measure} {value:.1}", round + 1, system.name);
                    let of_system = readings.entry(system.name.clone()).or_default();
                    of_system.entry(measure).or_default().push(value);
                }
            }
        }
    }
    figures(&readings, &systems, options, &server.version().await)
}

fn figures(readings: &Readings, systems: &[System], options: &Options, version: &str) -> Value {
    let middle = |system: &str, measure: &str| {
        let values = readings.get(system)?.get(measure)?;
        Some(median(values.clone()))
    };
    let mut tables = Map::new();
    for System { name, .. } in systems {
        let names = MEASURES.map(|(measure, _)| measure).into_iter();
        let row: Map<_, _> = names
            .chain([LISTENED])
            .filter_map(|measure| Some((measure.to_owned(), rounded(middle(name, measure)?))))
            .collect();
        tables.insert(name.clone(), row.into());
    }
    let mut ratios = Map::new();
    for (measure, more_is_better) in MEASURES {
        let others = systems.iter().filter(|system| system.name != DARKROOM);
        let best = others
            .filter_map(|system| middle(&system.name, measure))
            .reduce(if more_is_better { f64::max } else { f64::min });
        if let (Some(ours), Some(best)) = (middle(DARKROOM, measure), best) {
            ratios.insert(format!("{measure}_ratio"), rounded(ours / best));
        }
    }
    let listened = (
        middle(DARKROOM, LISTENED),
        middle(DARKROOM, "submit_16_jobs_per_s"),
    );
    if let (Some(with), Some(without)) = listened {
        ratios.insert("submit_listeners_ratio".into(), rounded(with / without));
    }
    json!({ "systems": tables, "to_best_other": ratios, "rounds": options.rounds, "jobs": options.jobs, "postgres": version })
}
