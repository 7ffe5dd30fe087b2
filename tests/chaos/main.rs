//! `just chaos --seed N --minutes M`: runs the real programs and real clients while faults are injected (`docs/chaos.md`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people at a terminal; a panic is a failed run"
)]

mod clients;
mod clocks;
mod cluster;
mod disks;
mod fault_schedule;
mod faults;
mod history;
mod member;
mod objects;
mod oracle;
mod photos;
mod plans;
mod survivors;
mod witness;
mod words;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use self::{
    cluster::{Cluster, Setup},
    history::History,
    photos::Photos,
};

const USAGE: &str = "usage: chaos [--seed N] [--minutes M] [--yesterday FOLDER] [--keep]

  --seed N      decides the order of the faults and what clients do; by the clock if left out, and printed
  --minutes M   how long the faults go on, e.g. 2 or 0.5 [default: 2]
  --yesterday FOLDER
                a darkroom-api and a darkroom-worker of an earlier version: in turns with today's, on today's schema
  --keep        leave logs and history where they are, even of a good run";

#[derive(Debug)]
struct Options {
    seed: u64,
    minutes: f64,
    yesterday: Option<PathBuf>,
    keep: bool,
}

/// Longest time in which all jobs must end after all faults are healed.
const DRAIN_MAX: Duration = Duration::from_secs(90);
/// A run of this length or more must prove that it took the rare paths.
const PROOF_MINUTES: f64 = 2.0;

fn main() -> ExitCode {
    let options = match read_options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let can_mount = disks::enter_own_mount_namespace();
    let credentials = local::Credentials::generate();
    let s3_port = local::free_port().unwrap();
    for (name, value) in [
        ("AWS_ENDPOINT_URL_S3", format!("http://127.0.0.1:{s3_port}")),
        ("AWS_REGION", local::REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", credentials.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_key.clone()),
    ] {
        #[allow(
            unsafe_code,
            clippy::disallowed_methods,
            reason = "no other thread runs yet"
        )]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let setup = Setup {
        credentials,
        s3_port,
        can_mount,
        yesterday: options.yesterday.clone(),
    };
    runtime.block_on(run(options, setup))
}

async fn run(options: Options, setup: Setup) -> ExitCode {
    let Options {
        seed,
        minutes,
        keep,
        ..
    } = options;
    let history = Arc::new(History::begin());
    println!("chaos: seed {seed}, {minutes} min");
    let cluster = Arc::new(Cluster::open(&history, setup).await);
    history.phase("everything runs");
    if cluster.disks.is_none() {
        history.phase("no disk will be full: none can be mounted here");
    }
    if !cluster.clocks_can_be_wrong() {
        history.phase("all clocks are right: no libfaketime on this machine");
    }
    let photos = Arc::new(Photos::with_references(&cluster).await);
    history.phase(&format!("{} references", photos.references()));

    let witness = tokio::spawn(witness::watch(cluster.clone(), history.clone()));
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let killers = fault_schedule::kill_poisoned_workers(&cluster, &photos);
    let clients = clients::start(&cluster, &photos, &history, seed, until);
    let faults = fault_schedule::inject_faults(&cluster, &history, seed, until).await;
    history.phase("all faults are healed");

    let (mut jobs, drained) = clients::finish(clients, DRAIN_MAX).await;
    let took = until.elapsed();
    history.phase(&format!("drained after {:.1} s", took.as_secs_f64()));
    if !drained {
        history.violation("I2", "not every accepted job ended in time");
    }
    witness.abort();
    killers.iter().for_each(tokio::task::JoinHandle::abort);
    survivors::check_every_process(&cluster, &photos, &history).await;
    history.phase("every process was asked to work");
    clients::read_all_again(&cluster, &photos, &history, &mut jobs).await;
    let counters = oracle::judge(&cluster, &photos, &history, &jobs).await;
    if minutes >= PROOF_MINUTES {
        for (name, count) in counters.rare() {
            if count == 0 {
                history.violation("proof", format!("{name} never happened: nothing was shown"));
            }
        }
    }
    history.phase("judged");

    let violations = history.violations();
    let good = violations.is_empty();
    let at = history.folder().to_owned();
    println!(
        "{}",
        json!({
            "seed": seed, "minutes": minutes, "jobs": jobs.len(), "drain_s": took.as_secs_f64(),
            "counters": counters.to_json(), "starts": cluster.starts(), "submits": history.submits(), "faults": faults,
            "violations": violations, "verdict": if good { "nothing lost, duplicated or changed" } else { "violated" },
        })
    );
    if !good {
        eprintln!(
            "seed {seed}: {} violations; history and logs: {}",
            violations.len(),
            at.display()
        );
    }
    drop(cluster);
    if good && !keep {
        drop(std::fs::remove_dir_all(at));
    } else if good {
        println!("history and logs: {}", at.display());
    }
    ExitCode::from(u8::from(!good))
}

fn read_options() -> Result<Options, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut options = Options {
        seed: now.unwrap_or_default().as_secs(),
        minutes: 2.0,
        yesterday: None,
        keep: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--seed" => options.seed = value()?.parse().map_err(|_| "--seed is a number")?,
            "--minutes" => {
                options.minutes = value()?.parse().map_err(|_| "--minutes is a number")?;
            }
            "--yesterday" => options.yesterday = Some(value()?.into()),
            "--keep" => options.keep = true,
            _ => return Err(format!("no option {arg}")),
        }
    }
    Ok(options)
}
