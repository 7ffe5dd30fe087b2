//! Darkroom as one of the systems of `bench queue`: `bench queue-driver OP [N]` on the empty database of `QB_DSN`.
//!
//! The verbs and the schema are the product's own: submits pass through the [`Enqueuer`], claims and completions are
//! statements for many jobs on kept connections, wake-ups travel by LISTEN and NOTIFY, finished jobs stay in the archive.
//! How many jobs a statement takes is a setting of the bench (`systems.rs`), as with the others: a worker takes 256 at most.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use jobs::{
    JobId, Secret, WorkerId,
    db::{Db, DbConfig, StatementPool},
    queue::{self, Enqueuer, EnqueuerConfig, LowWater, NewJob, Notifier, WorkerListener},
};
use serde_json::json;
use tests::given;
use tokio::sync::mpsc;

/// Jobs of one statement of a bulk enqueue: what the drivers of the other systems take.
const BULK: usize = 1000;
/// Waiting between two jobs, and how many are dropped as warm-up, in `latency`.
const PAUSE: Duration = Duration::from_millis(10);
const WARM_UP: usize = 50;

pub(crate) async fn drive(op: &str, count: usize) {
    let dsn = std::env::var("QB_DSN").expect("QB_DSN names an empty database");
    let pool = connect(&dsn);
    match op {
        "setup" => {
            jobs::MIGRATOR.run(pool.pool()).await.unwrap();
            given::model_version(&pool, given::MODEL).await;
            println!("{}", json!({ "op": op }));
        }
        "insert1" => submit(&pool, op, 1, count).await,
        "insert16" => submit(&pool, op, 16, count).await,
        "insert64" => submit(&pool, op, 64, count).await,
        "bulk" => bulk(&pool, count).await,
        "drain" => drain(&pool).await,
        "latency" => latency(&pool, count).await,
        _ => panic!("no operation {op}"),
    }
}

fn connect(dsn: &str) -> Db {
    let config = DbConfig {
        database_url: Secret::new(dsn),
        database_direct_url: None,
        db_connections_max: 10,
        db_acquire_timeout_ms: 5_000,
        db_statement_timeout_ms: 30_000,
        no_migrate: true,
    };
    Db::connect(&config, "bench").unwrap()
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// What all jobs of a run have in common: a small no-op over one image.
async fn template(pool: &Db) -> NewJob {
    given::job(&given::model_version(pool, given::MODEL).await, "no-op")
}

fn another(template: &NewJob) -> NewJob {
    NewJob {
        id: JobId::now(),
        ..template.clone()
    }
}

fn report(op: &str, count: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    println!(
        "{}",
        json!({ "op": op, "n": count, "secs": seconds, "rate": (count as f64 / seconds).round() })
    );
}

/// Single submits of so many callers, each of whom waits for his commit.
async fn submit(pool: &Db, op: &str, callers: usize, count: usize) {
    let template = template(pool).await;
    let config = EnqueuerConfig {
        enqueue_batch_max: 500,
        enqueue_waiting_max: 2_000,
        enqueue_company_ms: 5,
    };
    let enqueuer = Enqueuer::start(pool.clone(), &config);
    let caller = |count: usize| {
        let (enqueuer, template) = (enqueuer.clone(), template.clone());
        tokio::spawn(async move {
            for _ in 0..count {
                enqueuer.submit(another(&template)).await.unwrap();
            }
        })
    };
    join_all((0..callers).map(|_| caller(4))).await;
    let began = Instant::now();
    for done in join_all((0..callers).map(|_| caller(count / callers))).await {
        done.unwrap();
    }
    report(op, count / callers * callers, began.elapsed());
}

async fn bulk(pool: &Db, count: usize) {
    let template = template(pool).await;
    let began = Instant::now();
    let mut left = count;
    while left > 0 {
        let jobs: Vec<_> = (0..BULK.min(left)).map(|_| another(&template)).collect();
        queue::enqueue(pool, &jobs).await.unwrap();
        left -= jobs.len();
    }
    report("bulk", count, began.elapsed());
}

/// What the runner says, line by line.
fn lines() -> mpsc::Receiver<String> {
    let (heard, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(()) = heard.blocking_send(line.unwrap_or_default()) else {
                return;
            };
        }
    });
    lines
}

/// Works off what is there: each claimer has a completer beside it, so that the two overlap.
async fn drain(pool: &Db) {
    let (batch, claimers) = (setting("QB_BATCH", 1000), setting("QB_CONC", 2));
    let worker = given::worker(pool, "bench").await;
    let kept = StatementPool::with_one_plan(pool.clone());
    let notifier = Notifier::start(kept.clone());
    let warm = (0..=claimers * 2).map(|_| sqlx::query("select pg_sleep(0.02)").execute(pool));
    join_all(warm).await;
    let done = Arc::new(AtomicU64::new(0));
    let mut lines = lines();
    println!("READY");
    lines.recv().await;
    for _ in 0..claimers {
        let (to_complete, outcomes) = mpsc::channel(2);
        tokio::spawn(complete(kept.clone(), notifier.clone(), outcomes));
        tokio::spawn(claim(
            kept.clone(),
            worker,
            batch,
            done.clone(),
            to_complete,
        ));
    }
    let mut told = 0;
    let count = async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = done.load(Ordering::Relaxed);
            if now != told {
                println!("C {now}");
                told = now;
            }
        }
    };
    tokio::select! {
        () = count => {}
        _ = lines.recv() => {}
    }
}

async fn claim(
    kept: StatementPool,
    worker: WorkerId,
    batch: usize,
    done: Arc<AtomicU64>,
    to_complete: mpsc::Sender<Vec<queue::Lease>>,
) {
    let low_water = LowWater::default();
    loop {
        let claims = kept
            .run(async |db| queue::claim_on(db, worker, &[], batch as u16, &low_water).await)
            .await
            .unwrap();
        let leases: Vec<_> = claims.into_iter().map(|claim| claim.lease).collect();
        if leases.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        done.fetch_add(leases.len() as u64, Ordering::Relaxed); // the no-op itself
        if to_complete.send(leases).await.is_err() {
            return;
        }
    }
}

async fn complete(
    kept: StatementPool,
    notifier: Notifier,
    mut outcomes: mpsc::Receiver<Vec<queue::Lease>>,
) {
    while let Some(leases) = outcomes.recv().await {
        let done: Vec<_> = leases
            .into_iter()
            .map(|lease| given::completion(lease, "no-op"))
            .collect();
        let completed = kept
            .run(async |db| queue::settle(db, &done).await)
            .await
            .unwrap();
        notifier.changed(completed);
    }
}

/// From the call of submit to the job in the worker's hands, by way of the commit, NOTIFY and a claim.
async fn latency(pool: &Db, count: usize) {
    let template = template(pool).await;
    let worker = given::worker(pool, "bench").await;
    let (started, mut starts) = mpsc::channel(16);
    let workers_pool = connect(&std::env::var("QB_DSN").unwrap());
    tokio::spawn(async move {
        let (news, low_water) = (
            WorkerListener::start(workers_pool.clone()),
            LowWater::default(),
        );
        let (to_complete, outcomes) = mpsc::channel(8);
        let kept = StatementPool::with_one_plan(workers_pool.clone());
        let notifier = Notifier::start(kept.clone());
        tokio::spawn(complete(kept.clone(), notifier, outcomes));
        loop {
            let claims = kept
                .run(async |db| queue::claim_on(db, worker, &[], 8, &low_water).await)
                .await
                .unwrap();
            let now = Instant::now();
            if claims.is_empty() {
                news.queued(Duration::from_secs(1)).await;
                continue;
            }
            for claim in &claims {
                started.send((claim.lease.job_id, now)).await.unwrap();
            }
            let leases = claims.into_iter().map(|claim| claim.lease).collect();
            to_complete.send(leases).await.unwrap();
        }
    });
    let config = EnqueuerConfig {
        enqueue_batch_max: 500,
        enqueue_waiting_max: 2_000,
        enqueue_company_ms: 5,
    };
    let enqueuer = Enqueuer::start(StatementPool::with_one_plan(pool.clone()), &config);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut took_ms, mut commits_ms) = (Vec::new(), Vec::new());
    for turn in 0..count + WARM_UP {
        tokio::time::sleep(PAUSE).await;
        let job = another(&template);
        let (id, began) = (job.id, Instant::now());
        enqueuer.submit(job).await.unwrap();
        let committed = began.elapsed();
        let at = loop {
            let (started, at): (JobId, Instant) = starts.recv().await.unwrap();
            if started == id {
                break at;
            }
        };
        if turn >= WARM_UP {
            took_ms.push((at - began).as_secs_f64() * 1e3);
            commits_ms.push(committed.as_secs_f64() * 1e3);
        }
    }
    took_ms.sort_by(f64::total_cmp);
    commits_ms.sort_by(f64::total_cmp);
    let part = |part: f64| took_ms[((took_ms.len() - 1) as f64 * part) as usize];
    println!(
        "{}",
        json!({ "op": "latency", "n": took_ms.len(), "p50": part(0.5), "p90": part(0.9), "p99": part(0.99),
                "min": part(0.0), "max": part(1.0),
                "committed_p50": commits_ms[commits_ms.len() / 2] })
    );
}
