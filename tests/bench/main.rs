//! `tests/bench/run NAME`: the cost of the service over the bare model, as ratios of two systems that take turns.
//!
//! One JSON line on standard output; progress on standard error. Runs inside `deploy/local/run with`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // a program for people at a terminal

mod bare;
mod cold;
mod cpu;
mod decode;
mod depth;
mod e2e;
mod infer;
mod latency;
mod load;
mod photos;
mod pressure;
mod queue;
mod reads;
mod record;
mod soak;
mod waiters;

use std::path::PathBuf;

use serde_json::{Value, json};

/// Options of the benches that use photos.
#[derive(Debug)]
struct Bench {
    photos: PathBuf,
    /// Length of each measurement.
    seconds: f64,
    rounds: usize,
    /// Device of the worker and of the bare loop.
    device: String,
    precision: String,
    /// Folder of the model.
    model: PathBuf,
    clients: usize,
}

impl Bench {
    /// Starts a worker with the device and the precision of the bare loop.
    async fn worker(&self, stack: &tests::Stack, name: &str) -> tests::stack::Running {
        let env = [
            ("DARKROOM_DEVICE", self.device.as_str()),
            ("DARKROOM_PRECISION", &self.precision),
        ];
        stack.worker(name, &env).await
    }

    /// Pushes the model and returns its name.
    async fn pushed_model(&self, stack: &tests::Stack) -> String {
        let folder = jobs::models::ModelFolder::read(&self.model).unwrap();
        let pushed = jobs::models::push(&stack.db, &stack.store, &folder, None, false).await;
        pushed.unwrap();
        folder.manifest.name
    }
}

const USAGE: &str = "usage: tests/bench/run e2e|overhead|latency|cold|decode [--photos DIR] [--seconds N] [--rounds N] [--record]
       tests/bench/run e2e|overhead [--device cpu|cuda:N] [--precision default|auto|fp32|bf16|fp16] [--model DIR] [--clients N] …
       tests/bench/run infer|latency|cold [--device cpu|cuda:N] …
       tests/bench/run soak [--photos DIR] [--images N] [--device cpu|cuda:N] [--model DIR] [--clients N] … [--record]
       tests/bench/run pressure --device cuda:0 [--free-mib N] [--model DIR] [--precision …] [--clients N] [--seconds N]
       tests/bench/run queue [--rounds N] [--jobs N] [--systems NAME,…] [--peer NAME=COMMAND]… [--record]
       tests/bench/run depth [--finished-max N] [--queued N] [--passed N] [--record]
       tests/bench/run reads [--finished N] [--record]
       tests/bench/run waiters [--waiters N] [--sse-share PART] [--photos DIR] [--seconds N] [--rounds N] [--record]
       tests/bench/run all [--record]

  e2e       images/s through HTTP, S3, Postgres and worker, against the bare loop (32 clients that wait, or --clients)
  overhead  CPU ms a job spent outside decoding and inference, everything on this machine counted
  latency   one client, one image at a time: upload to result in hand, against the bare call
  cold      start of a worker process to its first result, the model in its disk cache
  decode    decoding and preprocessing by size, beside Pillow (tests/bench/peers/pillow/install) and the crate image
  infer     forward passes alone, by batch size and precision
  soak      memory after 1,000 images and after many
  pressure  two models on a GPU while another process holds its memory but for --free-mib: every image is done
  queue     enqueue, drain and pick-up of jobs that do nothing, beside public queues (tests/bench/peers/install)
  depth     claims and completions over millions of finished and queued jobs, and under a held snapshot
  reads     lists, usage and the statements of docs/sql.md over millions of finished jobs: p50 and p99 of each
  waiters   a submit beside 10,000 open long polls and event streams of one API process, and what a waiter holds
  all       each of them but pressure, one JSON line each";

/// The benches of `all`, the short ones first.
const ALL: [&str; 11] = [
    "e2e", "overhead", "latency", "cold", "decode", "infer", "waiters", "reads", "soak", "queue",
    "depth",
];

/// Options of all benches.
#[derive(Debug)]
struct Options {
    photos: Option<PathBuf>,
    seconds: f64,
    rounds: usize,
    device: String,
    precision: String,
    model: Option<PathBuf>,
    clients: usize,
    images: usize,
    /// Free memory of the GPU, for `pressure`.
    free_mib: usize,
    record: bool,
    queue: queue::Options,
    depth: depth::Options,
    reads: reads::Options,
    waiters: waiters::Options,
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    if name == "queue-driver" {
        let op = args.next().unwrap_or_default();
        let count = args.next().map_or(0, |count| count.parse().unwrap());
        return queue::driver::drive(&op, count).await;
    }
    let options = options(args);
    let names = match name.as_str() {
        "all" => ALL.to_vec(),
        name if ALL.contains(&name) || name == "pressure" => vec![name],
        _ => exit_with_usage("which bench?"),
    };
    for name in names {
        let mut figures = measure(name, &options).await;
        figures["bench"] = json!(name);
        println!("{figures}");
        if options.record {
            record::record(name, &figures);
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Options {
    let mut options = Options {
        photos: None,
        seconds: 8.0,
        rounds: 5,
        device: "cpu".into(),
        precision: "default".into(),
        model: None,
        clients: 32,
        images: 20_000,
        free_mib: 2_000,
        record: false,
        queue: queue::Options {
            rounds: 3,
            jobs: 20_000,
            systems: Vec::new(),
            peers: Vec::new(),
        },
        depth: depth::Options {
            finished_max: 10_000_000,
            queued: 1_000_000,
            passed: 100_000,
        },
        reads: reads::Options {
            finished: 2_000_000,
        },
        waiters: waiters::Options {
            waiters: 10_000,
            sse_share: 0.5,
        },
    };
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .unwrap_or_else(|| exit_with_usage(&format!("{arg} needs a value")))
        };
        match arg.as_str() {
            "--photos" => options.photos = Some(PathBuf::from(value())),
            "--seconds" => {
                options.seconds = value()
                    .parse()
                    .unwrap_or_else(|_| exit_with_usage("--seconds N"));
            }
            "--rounds" => {
                options.rounds = number(&arg, &value());
                options.queue.rounds = options.rounds;
            }
            "--device" => options.device = value(),
            "--precision" => options.precision = value(),
            "--model" => options.model = Some(PathBuf::from(value())),
            "--clients" => options.clients = number(&arg, &value()),
            "--free-mib" => options.free_mib = number(&arg, &value()),
            "--images" => options.images = number(&arg, &value()),
            "--jobs" => options.queue.jobs = number(&arg, &value()),
            "--systems" => options.queue.systems = value().split(',').map(str::to_owned).collect(),
            "--peer" => options.queue.peers.push(value()),
            "--finished-max" => options.depth.finished_max = number(&arg, &value()) as u64,
            "--finished" => options.reads.finished = number(&arg, &value()).max(100_000) as u64,
            "--queued" => options.depth.queued = number(&arg, &value()) as u64,
            "--passed" => options.depth.passed = number(&arg, &value()),
            "--waiters" => options.waiters.waiters = number(&arg, &value()).max(101),
            "--sse-share" => {
                let share = value().parse();
                options.waiters.sse_share =
                    share.unwrap_or_else(|_| exit_with_usage("--sse-share 0.5"));
            }
            "--record" => options.record = true,
            _ => exit_with_usage(&format!("no option {arg}")),
        }
    }
    options
}

async fn measure(name: &str, options: &Options) -> Value {
    let bench = || Bench {
        photos: options.photos.clone().unwrap_or_else(photos::seeded),
        seconds: options.seconds,
        rounds: options.rounds,
        device: options.device.clone(),
        precision: options.precision.clone(),
        model: options.model.as_ref().map_or_else(
            || tests::fixtures::model(load::MODEL),
            |folder| folder.canonicalize().unwrap(),
        ),
        clients: options.clients,
    };
    match name {
        "e2e" | "overhead" => e2e::measure(&bench()).await,
        "latency" => latency::measure(&bench()).await,
        "cold" => cold::measure(&bench()).await,
        "decode" => decode::measure(&bench()),
        "infer" => infer::measure(&bench()),
        "waiters" => Box::pin(waiters::measure(&bench(), &options.waiters)).await,
        "pressure" => pressure::measure(&bench(), options.free_mib).await,
        "soak" => soak::measure(&bench(), options.images).await,
        "queue" => queue::measure(&options.queue).await,
        "depth" => Box::pin(depth::measure(&options.depth)).await,
        "reads" => Box::pin(reads::measure(&options.reads)).await,
        _ => exit_with_usage("which bench?"),
    }
}

fn number(option: &str, value: &str) -> usize {
    let number = value.parse();
    number.unwrap_or_else(|_| exit_with_usage(&format!("{option} N")))
}

fn exit_with_usage(why: &str) -> ! {
    eprintln!("{why}\n\n{USAGE}");
    std::process::exit(2)
}

/// The median; of an even number of values the upper one of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
