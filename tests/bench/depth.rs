//! `bench depth`: the cost of a claim of ten jobs and of their completion, with a long history, a long queue, and dead rows
//! that an old snapshot keeps. Each is a ratio to a small database; the two take turns.

mod fill;

use std::time::{Duration, Instant};

use jobs::{
    JobId, WorkerId,
    queue::{self, LowWater, NewJob},
};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgPool};
use tests::{Database, given};

use crate::{median, rounded};

const TEN: u16 = 10;
/// Jobs of one statement that fills or empties a queue.
const MANY: u16 = 1000;
/// Finished jobs in the small database.
const SMALL: u64 = 10_000;
/// Readings of each database.
const TURNS: usize = 150;
/// Queued jobs for one series of readings.
const QUEUED_FOR_A_SERIES: usize = (TURNS + 20) * TEN as usize;
/// Age at which a low-water mark counts.
const MARKS_RIPEN: Duration = Duration::from_secs(4);

/// Options of `bench depth`.
#[derive(Debug)]
pub(crate) struct Options {
    pub finished_max: u64,
    pub queued: u64,
    /// Jobs that are enqueued and completed while a snapshot is held.
    pub passed: usize,
}

/// A database with one claimer.
struct Subject {
    db: Database,
    worker: WorkerId,
    template: NewJob,
    low_water: LowWater,
}

/// Milliseconds of a claim of ten jobs, and of their completion.
type Reading = (f64, f64);

pub(crate) async fn measure(options: &Options) -> Value {
    let mut figures = json!({ "finished_max_rows": options.finished_max, "queued_rows": options.queued,
                              "passed_jobs": options.passed, "readings": TURNS });
    let small = Subject::new().await;
    fill::finished(&small.db, SMALL).await;

    let deep = Subject::new().await;
    let mut finished = SMALL * 100;
    while finished <= options.finished_max {
        eprintln!("filling up to {finished} finished jobs");
        fill::finished(&deep.db, finished).await;
        add_figures(
            &mut figures,
            &format!("finished_{finished}"),
            compare(&small, &deep).await,
        );
        finished *= 10;
    }
    drop(deep);

    eprintln!("filling up to {} queued jobs", options.queued);
    let long = Subject::new().await;
    fill::finished(&long.db, SMALL).await;
    fill::queued(&long.db, &long.template, options.queued).await;
    add_figures(&mut figures, "queued", compare(&small, &long).await);
    drop(long);

    eprintln!("passing {} jobs under a held snapshot", options.passed);
    let held = Subject::new().await;
    fill::finished(&held.db, SMALL).await;
    let snapshot = hold_snapshot(&held.db).await;
    held.run_jobs(options.passed).await;
    held.advance_marks().await;
    add_figures(&mut figures, "held_snapshot", compare(&small, &held).await);
    let unmarked = Subject {
        low_water: LowWater::default(),
        ..held
    };
    unmarked.enqueue(QUEUED_FOR_A_SERIES).await;
    let unmarked_claim_ms = unmarked.unmarked_claim_ms().await;
    let base = median(
        small
            .series()
            .await
            .into_iter()
            .map(|(claim, _)| claim)
            .collect(),
    );
    figures["held_snapshot_sweep_ratio"] = rounded(unmarked_claim_ms / base);
    drop(snapshot);
    figures
}

fn add_figures(
    figures: &mut Value,
    name: &str,
    ((claim_ms, complete_ms), (small_claim_ms, small_complete_ms)): (Reading, Reading),
) {
    let (claim, complete) = (claim_ms / small_claim_ms, complete_ms / small_complete_ms);
    eprintln!("{name}: claim {claim:.2} times, complete {complete:.2} times as long");
    for (key, value) in [
        ("claim_ms", claim_ms),
        ("small_claim_ms", small_claim_ms),
        ("claim_ratio", claim),
        ("complete_ms", complete_ms),
        ("small_complete_ms", small_complete_ms),
        ("complete_ratio", complete),
    ] {
        figures[format!("{name}_{key}")] = rounded(value);
    }
}

/// Medians of the deep and of the small database. The two take turns.
async fn compare(small: &Subject, deep: &Subject) -> (Reading, Reading) {
    let (mut of_small, mut of_deep) = (Vec::new(), Vec::new());
    for subject in [small, deep] {
        subject.enqueue(QUEUED_FOR_A_SERIES).await;
        for _ in 0..20 {
            subject.claim_and_complete_ten().await; // warm-up: prepares the statements and their generic plans
        }
    }
    for _ in 0..TURNS {
        of_small.push(small.claim_and_complete_ten().await);
        of_deep.push(deep.claim_and_complete_ten().await);
    }
    let medians = |readings: Vec<Reading>| {
        let (claims, completes) = readings.into_iter().unzip();
        (median(claims), median(completes))
    };
    (medians(of_deep), medians(of_small))
}

impl Subject {
    async fn new() -> Self {
        let db = given::database().await;
        let model = given::model_version(&db, given::MODEL).await;
        let registration = queue::Registration {
            name: "bench".into(),
            device: "cpu".into(),
            build: "bench".into(),
            models: vec![],
        };
        let worker = queue::register(&db, &registration, 86_400.0).await;
        Self {
            worker: worker.unwrap(),
            template: given::job(&model, "no-op"),
            low_water: LowWater::default(),
            db,
        }
    }

    async fn enqueue(&self, count: usize) {
        let jobs: Vec<_> = (0..count)
            .map(|_| NewJob {
                id: JobId::now(),
                ..self.template.clone()
            })
            .collect();
        for jobs in jobs.chunks(usize::from(MANY)) {
            queue::enqueue(&self.db, jobs).await.unwrap();
        }
    }

    async fn claim(&self, count: u16) -> Vec<queue::Settlement> {
        let claims =
            tests::claiming::claim_with(&self.db, self.worker, &[], count, &self.low_water);
        let claims = claims.await.unwrap().into_iter();
        claims
            .map(|claim| given::completion(claim.lease, "no-op"))
            .collect()
    }

    async fn complete(&self, done: &[queue::Settlement]) {
        assert_eq!(
            tests::settling::complete(&self.db, done)
                .await
                .unwrap()
                .len(),
            done.len()
        );
    }

    async fn claim_and_complete_ten(&self) -> Reading {
        let began = Instant::now();
        let done = self.claim(TEN).await;
        let claim_ms = began.elapsed().as_secs_f64() * 1e3;
        assert_eq!(done.len(), usize::from(TEN), "the queue ran dry");
        let began = Instant::now();
        self.complete(&done).await;
        (claim_ms, began.elapsed().as_secs_f64() * 1e3)
    }

    async fn series(&self) -> Vec<Reading> {
        self.enqueue(QUEUED_FOR_A_SERIES).await;
        let mut readings = Vec::new();
        for _ in 0..TURNS {
            readings.push(self.claim_and_complete_ten().await);
        }
        readings
    }

    /// Enqueues and completes so many jobs.
    async fn run_jobs(&self, count: usize) {
        for _ in 0..count / usize::from(MANY) {
            self.enqueue(usize::from(MANY)).await;
            let done = self.claim(MANY).await;
            self.complete(&done).await;
        }
    }

    /// Claims slowly until the low-water marks are behind the completed jobs.
    async fn advance_marks(&self) {
        let began = Instant::now();
        self.enqueue(1000).await;
        while began.elapsed() < MARKS_RIPEN {
            self.claim_and_complete_ten().await;
            tokio::time::sleep(MARKS_RIPEN / 40).await;
        }
    }

    /// Median milliseconds of a claim without low-water marks.
    async fn unmarked_claim_ms(&self) -> f64 {
        let mut took_ms = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            let claims = tests::claiming::claim(&self.db, self.worker, &[], TEN)
                .await
                .unwrap();
            took_ms.push(began.elapsed().as_secs_f64() * 1e3);
            let done: Vec<_> = claims
                .iter()
                .map(|claim| given::completion(claim.lease, "no-op"))
                .collect();
            self.complete(&done).await;
        }
        median(took_ms)
    }
}

/// Opens a transaction whose snapshot keeps vacuum from removing dead rows, as a long report or a dump would.
async fn hold_snapshot(db: &PgPool) -> PgConnection {
    let options = db.connect_options();
    let mut holder = PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(
        "set idle_in_transaction_session_timeout = 0; begin isolation level repeatable read; select count(*) from models",
    )
    .execute(&mut holder)
    .await
    .unwrap();
    holder
}
