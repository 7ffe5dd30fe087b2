//! `tests/bench/run NAME`: what the service costs over the bare model, as ratios of things measured in turns.
//!
//! One JSON line on standard output; progress on standard error. Runs inside `deploy/local/run with`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // a program for people at a terminal

mod bare;
mod cpu;
mod depth;
mod e2e;
mod latency;
mod load;
mod photos;
mod queue;
mod record;
mod waiters;

use std::path::PathBuf;

use serde_json::{Value, json};

/// What every bench is told.
#[derive(Debug)]
struct Bench {
    photos: PathBuf,
    /// Of each measurement.
    seconds: f64,
    rounds: usize,
}

const USAGE: &str = "usage: tests/bench/run e2e|overhead|latency [--photos DIR] [--seconds N] [--rounds N] [--record]
       tests/bench/run queue [--rounds N] [--jobs N] [--systems NAME,…] [--peer NAME=COMMAND]… [--record]
       tests/bench/run depth [--finished-max N] [--queued N] [--passed N] [--record]
       tests/bench/run waiters [--waiters N] [--sse-share PART] [--photos DIR] [--seconds N] [--rounds N] [--record]

  e2e       images/s through HTTP, S3, Postgres and worker, against the bare loop (32 clients that wait)
  overhead  CPU ms a job spent outside decoding and inference, everything on this machine counted
  latency   one client, one image at a time: upload to result in hand, against the bare call
  queue     enqueue, drain and pick-up of jobs that do nothing, beside public queues (tests/bench/peers/install)
  depth     claims and completions over millions of finished and queued jobs, and under a held snapshot
  waiters   a submit beside 10,000 open long polls and event streams of one API process, and what a waiter holds";

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    if name == "queue-driver" {
        let op = args.next().unwrap_or_default();
        let count = args.next().map_or(0, |count| count.parse().unwrap());
        return queue::driver::drive(&op, count).await;
    }
    let (mut photos, mut seconds, mut rounds, mut record) = (None, 8.0, 3, false);
    let (mut jobs, mut systems, mut peers) = (20_000, Vec::new(), Vec::new());
    let (mut finished_max, mut queued, mut passed) = (10_000_000, 1_000_000, 100_000);
    let (mut waiters, mut sse_share) = (10_000, 0.5);
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .unwrap_or_else(|| leave(&format!("{arg} needs a value")))
        };
        match arg.as_str() {
            "--photos" => photos = Some(PathBuf::from(value())),
            "--seconds" => seconds = value().parse().unwrap_or_else(|_| leave("--seconds N")),
            "--rounds" => rounds = number(&arg, &value()),
            "--jobs" => jobs = number(&arg, &value()),
            "--systems" => systems = value().split(',').map(str::to_owned).collect(),
            "--peer" => peers.push(value()),
            "--finished-max" => finished_max = number(&arg, &value()) as u64,
            "--queued" => queued = number(&arg, &value()) as u64,
            "--passed" => passed = number(&arg, &value()),
            "--waiters" => waiters = number(&arg, &value()),
            "--sse-share" => {
                sse_share = value().parse().unwrap_or_else(|_| leave("--sse-share 0.5"));
            }
            "--record" => record = true,
            _ => leave(&format!("no option {arg}")),
        }
    }
    let bench = || Bench {
        photos: photos.unwrap_or_else(photos::seeded),
        seconds,
        rounds,
    };
    let mut figures = match name.as_str() {
        "e2e" | "overhead" => e2e::measure(&bench()).await,
        "latency" => latency::measure(&bench()).await,
        "queue" => {
            let options = queue::Options {
                rounds,
                jobs,
                systems,
                peers,
            };
            queue::measure(&options).await
        }
        "depth" => {
            let options = depth::Options {
                finished_max,
                queued,
                passed,
            };
            Box::pin(depth::measure(&options)).await
        }
        "waiters" => {
            let options = waiters::Options {
                waiters: waiters.max(101),
                sse_share,
            };
            Box::pin(waiters::measure(&bench(), &options)).await
        }
        _ => leave("which bench?"),
    };
    figures["bench"] = json!(name);
    println!("{figures}");
    if record {
        record::row(&name, &figures);
    }
}

fn number(option: &str, value: &str) -> usize {
    let number = value.parse();
    number.unwrap_or_else(|_| leave(&format!("{option} N")))
}

fn leave(why: &str) -> ! {
    eprintln!("{why}\n\n{USAGE}");
    std::process::exit(2)
}

/// The middle one; of an even number the upper of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
