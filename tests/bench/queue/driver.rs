//! Darkroom as one of the systems of `bench queue`: `bench queue-driver OP [N]` on the empty database of `QB_DSN`.
//!
//! The driver uses the code and the schema of the product: submits go through the [`Enqueuer`], claims and completions are
//! statements for many jobs on the statement pool, wake-ups use LISTEN and NOTIFY, and finished jobs stay in the archive.
//! The number of jobs of a statement is a setting of the bench (`systems.rs`), as for the other systems. A worker takes 256
//! at most.

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
    queue::{
        self, Enqueuer, EnqueuerConfig, LowWater, LowerLevels, NewJob, Notifier, WorkerListener,
    },
};
use serde_json::json;
use tests::given;
use tokio::sync::mpsc;

/// Jobs of one statement of a bulk enqueue, as in the drivers of the other systems.
const BULK: usize = 1000;
/// In `latency`: pause between two jobs, and number of warm-up jobs that do not count.
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
        database_password_file: None,
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

/// Template of all jobs of a run: a no-op on one image.
async fn template(pool: &Db) -> NewJob {
    given::job(&given::model_version(pool, given::MODEL).await, "no-op")
}

fn new_job(template: &NewJob) -> NewJob {
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

/// Single submits by concurrent callers. Each caller waits for the commit of its job.
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
                enqueuer.submit(new_job(&template)).await.unwrap();
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
        let jobs: Vec<_> = (0..BULK.min(left)).map(|_| new_job(&template)).collect();
        queue::enqueue(pool, &jobs).await.unwrap();
        left -= jobs.len();
    }
    report("bulk", count, began.elapsed());
}

/// The lines on standard input, from the bench.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(()) = sender.blocking_send(line.unwrap_or_default()) else {
                return;
            };
        }
    });
    lines
}

/// Drains the queue. Each claimer has a completer, so that claims and completions overlap.
async fn drain(pool: &Db) {
    let (batch, claimers) = (setting("QB_BATCH", 1000), setting("QB_CONC", 2));
    let worker = given::worker(pool, "bench").await;
    let statements = StatementPool::with_one_plan(pool.clone());
    let notifier = Notifier::start(statements.clone());
    let warm = (0..=claimers * 2).map(|_| sqlx::query("select pg_sleep(0.02)").execute(pool));
    join_all(warm).await;
    let done = Arc::new(AtomicU64::new(0));
    let mut lines = lines();
    println!("READY");
    lines.recv().await;
    for _ in 0..claimers {
        let (to_complete, outcomes) = mpsc::channel(2);
        tokio::spawn(complete(statements.clone(), notifier.clone(), outcomes));
        tokio::spawn(claim(
            statements.clone(),
            worker,
            batch,
            done.clone(),
            to_complete,
        ));
    }
    let mut reported = 0;
    let count = async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = done.load(Ordering::Relaxed);
            if now != reported {
                println!("C {now}");
                reported = now;
            }
        }
    };
    tokio::select! {
        () = count => {}
        _ = lines.recv() => {}
    }
}

async fn claim(
    statements: StatementPool,
    worker: WorkerId,
    batch: usize,
    done: Arc<AtomicU64>,
    to_complete: mpsc::Sender<Vec<queue::Lease>>,
) {
    let (low_water, lower_levels) = (LowWater::default(), LowerLevels::default());
    loop {
        let claims = statements
            .run(async |db| {
                queue::claim(db, worker, &[], batch as u16, &low_water, &lower_levels).await
            })
            .await
            .unwrap();
        let leases: Vec<_> = claims.into_iter().map(|claim| claim.lease).collect();
        if leases.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        done.fetch_add(leases.len() as u64, Ordering::Relaxed); // this is the no-op
        if to_complete.send(leases).await.is_err() {
            return;
        }
    }
}

async fn complete(
    statements: StatementPool,
    notifier: Notifier,
    mut outcomes: mpsc::Receiver<Vec<queue::Lease>>,
) {
    while let Some(leases) = outcomes.recv().await {
        let done: Vec<_> = leases
            .into_iter()
            .map(|lease| given::completion(lease, "no-op"))
            .collect();
        let completed = statements
            .run(async |db| queue::settle(db, &done).await)
            .await
            .unwrap();
        notifier.changed(completed);
    }
}

/// Milliseconds from the call of submit to the claim of the job, with commit and NOTIFY between them.
async fn latency(pool: &Db, count: usize) {
    let template = template(pool).await;
    let worker = given::worker(pool, "bench").await;
    let (started, mut starts) = mpsc::channel(16);
    let workers_pool = connect(&std::env::var("QB_DSN").unwrap());
    tokio::spawn(async move {
        let (news, low_water, lower_levels) = (
            WorkerListener::start(workers_pool.clone()),
            LowWater::default(),
            LowerLevels::default(),
        );
        let (to_complete, outcomes) = mpsc::channel(8);
        let statements = StatementPool::with_one_plan(workers_pool.clone());
        let notifier = Notifier::start(statements.clone());
        tokio::spawn(complete(statements.clone(), notifier, outcomes));
        loop {
            let claims = statements
                .run(async |db| queue::claim(db, worker, &[], 8, &low_water, &lower_levels).await)
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
        let job = new_job(&template);
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
