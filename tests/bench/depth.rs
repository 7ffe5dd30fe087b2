//! `bench depth`: what a claim of ten and the completion of ten cost over a long history, a long queue, and dead rows that
//! an old snapshot keeps; each as a ratio to the same on a small database, in turns.

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
/// Jobs of one statement while a queue is filled or emptied.
const MANY: u16 = 1000;
/// Finished rows of the small database.
const SMALL: u64 = 10_000;
/// Readings of each of the two, in turns.
const TURNS: usize = 150;
/// Queued jobs that a series of readings needs.
const NEEDED: usize = (TURNS + 20) * TEN as usize;
/// Low-water marks are this old before they count.
const MARKS_RIPEN: Duration = Duration::from_secs(4);

/// What `bench depth` is told.
#[derive(Debug)]
pub(crate) struct Options {
    pub finished_max: u64,
    pub queued: u64,
    /// Jobs that pass while a snapshot is held.
    pub passed: usize,
}

/// One database with a claimer in it.
struct Subject {
    db: Database,
    worker: WorkerId,
    template: NewJob,
    low_water: LowWater,
}

/// Milliseconds of a claim of ten and of the completion of those.
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
        note(
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
    note(&mut figures, "queued", compare(&small, &long).await);
    drop(long);

    eprintln!("passing {} jobs under a held snapshot", options.passed);
    let held = Subject::new().await;
    fill::finished(&held.db, SMALL).await;
    let snapshot = hold_a_snapshot(&held.db).await;
    held.pass(options.passed).await;
    held.ripen().await;
    note(&mut figures, "held_snapshot", compare(&small, &held).await);
    let unmarked = Subject {
        low_water: LowWater::default(),
        ..held
    };
    unmarked.enqueue(NEEDED).await;
    let swept_ms = unmarked.swept_ms().await;
    let base = median(
        small
            .series()
            .await
            .into_iter()
            .map(|(claim, _)| claim)
            .collect(),
    );
    figures["held_snapshot_sweep_ratio"] = rounded(swept_ms / base);
    drop(snapshot);
    figures
}

fn note(
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

/// Medians of both, deep and small, taken in turns.
async fn compare(small: &Subject, deep: &Subject) -> (Reading, Reading) {
    let (mut of_small, mut of_deep) = (Vec::new(), Vec::new());
    for subject in [small, deep] {
        subject.enqueue(NEEDED).await;
        for _ in 0..20 {
            subject.ten().await; // warm: statements prepared, generic plans made
        }
    }
    for _ in 0..TURNS {
        of_small.push(small.ten().await);
        of_deep.push(deep.ten().await);
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
        let claims = queue::claim_above(&self.db, self.worker, &[], count, &self.low_water);
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

    async fn ten(&self) -> Reading {
        let began = Instant::now();
        let done = self.claim(TEN).await;
        let claim_ms = began.elapsed().as_secs_f64() * 1e3;
        assert_eq!(done.len(), usize::from(TEN), "the queue ran dry");
        let began = Instant::now();
        self.complete(&done).await;
        (claim_ms, began.elapsed().as_secs_f64() * 1e3)
    }

    async fn series(&self) -> Vec<Reading> {
        self.enqueue(NEEDED).await;
        let mut readings = Vec::new();
        for _ in 0..TURNS {
            readings.push(self.ten().await);
        }
        readings
    }

    /// Jobs come and go.
    async fn pass(&self, count: usize) {
        for _ in 0..count / usize::from(MANY) {
            self.enqueue(usize::from(MANY)).await;
            let done = self.claim(MANY).await;
            self.complete(&done).await;
        }
    }

    /// The same slowly, until the marks stand behind what has passed.
    async fn ripen(&self) {
        let began = Instant::now();
        self.enqueue(1000).await;
        while began.elapsed() < MARKS_RIPEN {
            self.ten().await;
            tokio::time::sleep(MARKS_RIPEN / 40).await;
        }
    }

    /// Median milliseconds of claims without marks.
    async fn swept_ms(&self) -> f64 {
        let mut took_ms = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            let claims = queue::claim(&self.db, self.worker, &[], TEN).await.unwrap();
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

/// A report, a dump, a forgotten terminal: vacuum may remove nothing that it still sees.
async fn hold_a_snapshot(db: &PgPool) -> PgConnection {
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
