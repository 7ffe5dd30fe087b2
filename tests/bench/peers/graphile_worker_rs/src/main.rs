//! Driver of graphile_worker (crates.io) for `bench queue` (tests/bench/queue/systems.rs). `QB_BATCH`: jobs of one fetch;
//! `QB_CONC`: concurrent handlers.

use std::{
    io::BufRead,
    sync::OnceLock,
    time::{Duration, Instant},
};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions, WorkerUtils,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{sync::mpsc, task::JoinSet};

/// Channel for the starts of handlers. Only `latency` sets it.
static STARTS: OnceLock<mpsc::UnboundedSender<(u64, Instant)>> = OnceLock::new();

#[derive(Serialize, Deserialize)]
struct Noop {
    id: u64,
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(starts) = STARTS.get() {
            starts.send((self.id, Instant::now())).ok();
        }
        Ok::<(), String>(())
    }
}

fn options(pool: &PgPool) -> WorkerOptions {
    WorkerOptions::default()
        .pg_pool(pool.clone())
        .schema("graphile_worker")
        .define_job::<Noop>()
}

async fn utils(pool: &PgPool) -> WorkerUtils {
    options(pool).init().await.unwrap().create_utils()
}

fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let op = args.next().expect("an operation");
    let count: usize = args.next().map_or(0, |count| count.parse().unwrap());
    let pool = PgPoolOptions::new().max_connections(66);
    let pool = pool.connect(&std::env::var("QB_DSN").unwrap()).await.unwrap();
    match op.as_str() {
        "setup" => {
            utils(&pool).await.migrate().await.unwrap();
            println!("{}", json!({ "op": op }));
        }
        "bulk" => bulk(&pool, count).await,
        "drain" => drain(&pool).await,
        "latency" => latency(&pool, count).await,
        _ => singles(&pool, count, op.strip_prefix("insert").unwrap().parse().unwrap()).await,
    }
}

fn say_rate(jobs: usize, began: Instant) {
    println!("{}", json!({ "rate": jobs as f64 / began.elapsed().as_secs_f64() }));
}

async fn singles(pool: &PgPool, count: usize, callers: usize) {
    let submit = async |jobs: usize| {
        let mut all = JoinSet::new();
        for _ in 0..callers {
            let utils = utils(pool).await;
            all.spawn(async move {
                for _ in 0..jobs {
                    utils.add_job(Noop { id: 0 }, JobSpec::default()).await.unwrap();
                }
            });
        }
        all.join_all().await;
    };
    submit(2).await;
    let began = Instant::now();
    submit(count / callers).await;
    say_rate(count / callers * callers, began);
}

async fn bulk(pool: &PgPool, count: usize) {
    let utils = utils(pool).await;
    let began = Instant::now();
    for first in (0..count).step_by(1000) {
        let jobs: Vec<_> = (first..count.min(first + 1000))
            .map(|id| RawJobSpec {
                identifier: "noop".into(),
                payload: json!({ "id": id }),
                spec: JobSpec::default(),
            })
            .collect();
        utils.add_raw_jobs(&jobs).await.unwrap();
    }
    say_rate(count, began);
}

async fn drain(pool: &PgPool) {
    let worker = options(pool)
        .concurrency(setting("QB_CONC", 24))
        .poll_interval(Duration::from_millis(10))
        .local_queue(LocalQueueConfig::default().with_size(setting("QB_BATCH", 500)))
        .complete_job_batch_delay(Duration::from_millis(2));
    let worker = worker.init().await.unwrap();
    let mut lines = std::io::stdin().lock().lines();
    println!("READY");
    lines.next();
    tokio::spawn(async move { worker.run().await.unwrap() });
    tokio::task::block_in_place(|| lines.next());
    std::process::exit(0);
}

async fn latency(pool: &PgPool, count: usize) {
    let (starts, mut started) = mpsc::unbounded_channel();
    STARTS.set(starts).unwrap();
    let worker = options(pool)
        .concurrency(4)
        .poll_interval(Duration::from_secs(2))
        .complete_job_batch_delay(Duration::ZERO);
    let worker = worker.init().await.unwrap();
    let utils = worker.create_utils();
    tokio::spawn(async move { worker.run().await.unwrap() });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut took_ms = Vec::new();
    for id in 0..count as u64 + 50 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let began = Instant::now();
        utils.add_job(Noop { id }, JobSpec::default()).await.unwrap();
        let (which, at) = started.recv().await.unwrap();
        assert_eq!(which, id);
        took_ms.push((at - began).as_secs_f64() * 1e3);
    }
    let mut took_ms = took_ms.split_off(50);
    took_ms.sort_by(f64::total_cmp);
    let part = |part: f64| took_ms[((took_ms.len() - 1) as f64 * part) as usize];
    println!("{}", json!({ "n": took_ms.len(), "p50": part(0.5), "p90": part(0.9), "p99": part(0.99) }));
    std::process::exit(0);
}
