//! The systems of `bench queue` and their protocol.
//!
//! A driver is a program `PROGRAM OP [N]`. `QB_DSN` in its environment is the URL of a new database:
//! - `setup` makes the schema;
//! - `insert1 N`, `insert16 N`, `insert64 N` enqueue N jobs one by one from so many concurrent callers, `bulk N` in batches
//!   of 1000; both print a line `{"rate": jobs/s, …}`;
//! - `latency N` enqueues a job, waits until its handler starts, and pauses for 10 ms, N times; then prints a line
//!   `{"p50": ms, "p99": ms, …}`;
//! - `drain N` prints `READY`, waits for a line, and works until the next line. The time ends when the database holds no
//!   unfinished job, not when handlers return.

use std::path::PathBuf;

/// The system that the bench compares with the best other system.
pub(crate) const DARKROOM: &str = "darkroom";

/// Environment of a driver.
type Settings = &'static [(&'static str, &'static str)];

#[derive(Debug, Clone)]
pub(crate) struct System {
    pub name: String,
    pub command: Vec<String>,
    /// A query that tells whether an unfinished job is left.
    pub has_unfinished_sql: &'static str,
    /// Settings that drain fastest, and settings that take a hundred jobs at a time.
    pub best: Settings,
    pub by_hundreds: Settings,
    /// Number of single submits that take about a second.
    pub single_submits: usize,
}

// `exists` would read the table from its beginning, where the rows are that were done already. All queues drain oldest first.
const GRAPHILE_HAS_UNFINISHED: &str =
    "select (select id from graphile_worker._private_jobs order by id desc limit 1) is not null";

/// All known systems. `peers/install` installs the commands of the other systems.
fn known() -> Vec<System> {
    let installed = |words: &[&str]| {
        let root = local::checkout().unwrap();
        let bench = root.join(".local/bench");
        words
            .iter()
            .map(|word| word.replace("PEERS", &bench.to_string_lossy()))
            .collect::<Vec<_>>()
    };
    let this = std::env::current_exe().unwrap();
    vec![
        System {
            name: DARKROOM.into(),
            command: vec![this.to_string_lossy().into(), "queue-driver".into()],
            has_unfinished_sql: "select (select job_id from live_jobs order by job_id desc limit 1) is not null",
            best: &[("QB_BATCH", "5000"), ("QB_CONC", "2")],
            by_hundreds: &[("QB_BATCH", "100"), ("QB_CONC", "1")],
            single_submits: 20_000,
        },
        System {
            name: "graphile-worker".into(),
            command: installed(&["PEERS/node/bin/node", "PEERS/node/graphile-worker.mjs"]),
            has_unfinished_sql: GRAPHILE_HAS_UNFINISHED,
            best: &[("QB_BATCH", "2000"), ("QB_CONC", "24")],
            by_hundreds: &[("QB_BATCH", "100"), ("QB_CONC", "24")],
            single_submits: 2_400,
        },
        System {
            name: "graphile_worker".into(),
            command: installed(&["PEERS/graphile_worker_rs"]),
            has_unfinished_sql: GRAPHILE_HAS_UNFINISHED,
            best: &[("QB_BATCH", "5000"), ("QB_CONC", "500")],
            by_hundreds: &[("QB_BATCH", "100"), ("QB_CONC", "24")],
            single_submits: 2_400,
        },
        System {
            name: "pg-boss".into(),
            command: installed(&["PEERS/node/bin/node", "PEERS/node/pg-boss.mjs"]),
            has_unfinished_sql: "select exists (select from pgboss.job where name = 'noop' and state < 'completed')",
            best: &[("QB_BATCH", "1000"), ("QB_CONC", "4")],
            by_hundreds: &[("QB_BATCH", "100"), ("QB_CONC", "4")],
            single_submits: 2_400,
        },
        System {
            name: "pgqueuer".into(),
            command: installed(&["PEERS/python/bin/python", "PEERS/python/pgqueuer_driver.py"]),
            has_unfinished_sql: "select (select id from pgqueuer order by id desc limit 1) is not null",
            best: &[("QB_BATCH", "100"), ("QB_CONC", "5")],
            by_hundreds: &[("QB_BATCH", "100"), ("QB_CONC", "5")],
            single_submits: 2_400,
        },
    ]
}

/// The systems with these names, or all installed systems. `commands` (`NAME=COMMAND`) replace the command of a system.
pub(crate) fn choose(names: &[String], commands: &[String]) -> Vec<System> {
    let known = known();
    let find = |name: &str| {
        let system = known.iter().find(|system| system.name == name);
        system
            .unwrap_or_else(|| crate::exit_with_usage(&format!("no system {name}")))
            .clone()
    };
    let mut systems: Vec<System> = if names.is_empty() {
        let is_installed = |system: &&System| {
            system
                .command
                .iter()
                .all(|word| !word.starts_with('/') || PathBuf::from(word).exists())
        };
        known.iter().filter(is_installed).cloned().collect()
    } else {
        names.iter().map(|name| find(name)).collect()
    };
    for command in commands {
        let (name, command) = command
            .split_once('=')
            .unwrap_or_else(|| crate::exit_with_usage("--peer NAME=COMMAND"));
        let mut system = find(name);
        system.command = command.split_whitespace().map(str::to_owned).collect();
        systems.retain(|other| other.name != system.name);
        systems.push(system);
    }
    systems
}
