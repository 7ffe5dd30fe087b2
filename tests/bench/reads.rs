//! `bench reads`: lists, usage and the statements of `docs/sql.md` over millions of finished jobs of fifty owners.

use std::time::{Duration, Instant};

use jobs::{
    BatchId, JobId, JobState, Secret, batches,
    db::{DbConfig, Reads, ReadsConfig},
    queue::{self, JobFilter, PageSize, QueueError, UsageQuery},
};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tests::{Database, given};

use crate::rounded;

const FRAME: &str = include_str!("reads/frame.sql");
const SEED: &str = include_str!("reads/seed.sql");
const COUNTS: &str = include_str!("reads/counts.sql");
const DOCS: &str = include_str!("../../docs/sql.md");
/// Days over which the history is spread.
const DAYS: u64 = 25;
/// Statements that make the finished jobs.
const PARTS: u64 = 20; // even: two are made at a time
/// Readings of one statement, fewer if they take long.
const READINGS: usize = 100;
const READINGS_MIN: usize = 5;
const LONGEST: Duration = Duration::from_secs(5);
/// What a list, a page and a documented statement may take.
const TARGET_MS: f64 = 300.0;
/// The owner of a fifth of all jobs, and the owner of the open batch.
const LARGEST: &str = "owner-0";
const OTHER: &str = "owner-1";
const BATCH: &str = "batch_000000000000700080000000000000ba";

/// Options of `bench reads`.
#[derive(Debug)]
pub(crate) struct Options {
    pub finished: u64,
}

pub(crate) async fn measure(options: &Options) -> Value {
    let db = given::database().await;
    let began = Instant::now();
    seed(&db, options.finished).await;
    let seeded = began.elapsed().as_secs_f64();
    eprintln!("seeded {} finished jobs in {seeded:.0} s", options.finished);
    let mut figures =
        json!({ "finished_rows": options.finished, "owners": 50, "seed_seconds": rounded(seeded) });
    let (mut slow, mut slowest) = (Vec::new(), 0.0_f64);
    let mut add = |name: &str, mut took: Vec<f64>| {
        took.sort_by(f64::total_cmp);
        let at = |part: f64| took[((took.len() - 1) as f64 * part).round() as usize];
        let (p50, p99) = (at(0.5), at(0.99));
        eprintln!("{p50:9.2} {p99:9.2} ms  {name}");
        slowest = p99.max(slowest);
        if p99 > TARGET_MS {
            slow.push(name.to_owned());
        }
        figures[name] = json!({ "p50_ms": rounded(p50), "p99_ms": rounded(p99) });
    };
    eprintln!("{:>9} {:>9}", "p50", "p99");

    let reads = reads(&db);
    for (name, owner, filter) in lists(&db).await {
        let size = PageSize::of(50);
        let took = time(&reads, true, async |db| {
            queue::list(&mut *db, owner, &filter, size).await.map(drop)
        });
        add(&format!("list {name}"), took.await);
    }
    let usage = UsageQuery {
        owner: Some(LARGEST.into()),
        by_day: true,
        ..UsageQuery::default()
    };
    let took = time(&reads, false, async |db| {
        queue::usage(&mut *db, &usage, 10_000).await.map(drop)
    });
    add("usage of an owner", took.await);
    let usage = UsageQuery {
        by_owner: true,
        by_model: true,
        by_day: true,
        ..UsageQuery::default()
    };
    let took = time(&reads, false, async |db| {
        queue::usage(&mut *db, &usage, 10_000).await.map(drop)
    });
    add("usage of all owners", took.await);
    let took = time(&reads, false, async |db| {
        queue::stats(&mut *db).await.map(drop)
    });
    add("stats", took.await);
    let batch: BatchId = BATCH.parse().unwrap();
    let took = time(&reads, false, async |db| {
        batches::find(&mut *db, batch, OTHER).await.map(drop)
    });
    add("counts of a batch of 50,000 lines", took.await);
    let took = time(&reads, false, async |db| {
        let lines = batches::results(&mut *db, batch, OTHER, 12_000, 12_200);
        lines.await.map(drop)
    });
    add("a page of its results", took.await);
    let took = time(&reads, false, async |db| {
        batches::list(&mut *db, OTHER, None, 20).await.map(drop)
    });
    add("list of batches", took.await);

    let example = some_job(&db).await.to_string();
    for (question, statement) in documented(&example) {
        let took = time(&reads, false, async |db| {
            let rows = sqlx::raw_sql(AssertSqlSafe(statement.clone()));
            rows.fetch_all(&mut *db).await?;
            Ok(())
        });
        add(&question, took.await);
    }
    figures["slowest_p99_ms"] = rounded(slowest);
    figures["slower_than_300_ms"] = json!(slow);
    figures
}

fn reads(db: &Database) -> Reads {
    let config = DbConfig {
        database_url: Secret::new(db.url()),
        database_direct_url: None,
        database_password_file: None,
        db_connections_max: 4,
        db_acquire_timeout_ms: 10_000,
        db_statement_timeout_ms: 60_000,
        no_migrate: true,
    };
    let limits = ReadsConfig {
        db_read_connections_max: 2,
        db_reads_per_owner_max: 2,
        db_read_timeout_ms: 60_000,
    };
    Reads::connect(&config, &limits, "bench").unwrap()
}

/// Milliseconds of each reading.
async fn time(
    reads: &Reads,
    is_page: bool,
    read: impl AsyncFn(&mut PgConnection) -> Result<(), QueueError>,
) -> Vec<f64> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while took.len() <= READINGS_MIN || took.len() <= READINGS && began.elapsed() < LONGEST {
        let reading = Instant::now();
        let read = async |db: &mut PgConnection| read(db).await;
        let done = if is_page {
            reads.page(LARGEST, read).await
        } else {
            reads.run(LARGEST, read).await
        };
        done.unwrap();
        took.push(reading.elapsed().as_secs_f64() * 1000.0);
    }
    // The first reading prepared the statement.
    took.split_off(1)
}

/// The filters of `GET /v1/jobs`, each as it costs most.
async fn lists(db: &PgPool) -> Vec<(&'static str, &'static str, JobFilter)> {
    let none = JobFilter::default;
    let metadata = |key: &str, value: &str| {
        let entry = (key.to_owned(), Value::from(value));
        Map::from_iter([entry])
    };
    let half: Option<JobId> = Some(middle_job(db).await);
    let of_state = |state| JobFilter {
        state: Some(state),
        ..none()
    };
    vec![
        ("first page, largest owner", LARGEST, none()),
        ("first page, another owner", OTHER, none()),
        (
            "page in the middle",
            LARGEST,
            JobFilter {
                before: half,
                ..none()
            },
        ),
        ("status=failed", LARGEST, of_state(JobState::Failed)),
        ("status=canceled", LARGEST, of_state(JobState::Canceled)),
        ("status=succeeded", LARGEST, of_state(JobState::Succeeded)),
        ("status=running", OTHER, of_state(JobState::Running)),
        (
            "metadata, no job",
            LARGEST,
            JobFilter {
                metadata: metadata("none", "x"),
                ..none()
            },
        ),
        (
            "metadata, some jobs",
            LARGEST,
            JobFilter {
                metadata: metadata("shelf", "s3"),
                ..none()
            },
        ),
        (
            "status=failed and metadata, no job",
            LARGEST,
            JobFilter {
                metadata: metadata("none", "x"),
                ..of_state(JobState::Failed)
            },
        ),
        (
            "model, no job",
            LARGEST,
            JobFilter {
                model: Some("none".into()),
                ..none()
            },
        ),
        (
            "task, no job",
            LARGEST,
            JobFilter {
                task: Some("embed".into()),
                ..none()
            },
        ),
        (
            "batch_id",
            OTHER,
            JobFilter {
                batch: Some(BATCH.parse().unwrap()),
                ..none()
            },
        ),
        (
            "created_after a day ago",
            LARGEST,
            JobFilter {
                created_after: Some(chrono::Utc::now() - chrono::TimeDelta::days(1)),
                ..none()
            },
        ),
    ]
}

async fn some_job(db: &PgPool) -> JobId {
    let id: uuid::Uuid =
        sqlx::query_scalar("select job_id from finished_jobs order by job_id desc limit 1")
            .fetch_one(db)
            .await
            .unwrap();
    id.into()
}

async fn middle_job(db: &PgPool) -> JobId {
    let id: uuid::Uuid = sqlx::query_scalar(
        "select job_id from finished_jobs where job_id < uuid_from_time(now() - interval '12 days') order by job_id desc limit 1",
    )
    .fetch_one(db)
    .await
    .unwrap();
    id.into()
}

/// The questions of the document and their statements, with names that the seed has. Those that change something are left out.
fn documented(job: &str) -> Vec<(String, String)> {
    let (questions, _) = DOCS.split_once("## Changing things").unwrap();
    let parts: Vec<_> = questions.split("```").collect();
    let pairs = parts.windows(2).filter_map(|pair| {
        let statement = pair[1].strip_prefix("sql\n")?;
        let question = pair[0].trim().lines().last()?.to_owned();
        let statement = with_names_of_the_seed(statement, job);
        Some((question, statement))
    });
    pairs.collect()
}

/// The statement with the model, the owner and the ids of the seed.
fn with_names_of_the_seed(statement: &str, job: &str) -> String {
    let mut statement = statement.replace("efficientnet-lite0", "lite-1");
    while let Some(at) = statement.find("job_0198") {
        statement.replace_range(at..at + 36, job);
    }
    statement
}

async fn seed(db: &Database, jobs: u64) {
    let settings = "set statement_timeout = 0; set synchronous_commit = off; set jit = off; set maintenance_work_mem = '256MB'";
    let connect = async || {
        let mut connection = db.connection().await;
        run(&mut connection, settings).await;
        connection
    };
    let (mut db, mut other) = (connect().await, connect().await);
    let with = |text: &str, part: u64| {
        let last = jobs * part / PARTS;
        let first = jobs * part.saturating_sub(1) / PARTS + 1;
        text.replace("$JOBS", &jobs.to_string())
            .replace("$DAYS", &DAYS.to_string())
            .replace("$PARTS", &PARTS.to_string())
            .replace("$PART", &part.to_string())
            .replace("$FIRST", &first.to_string())
            .replace("$LAST", &last.to_string())
    };
    run(&mut db, &with(FRAME, 0)).await;
    for part in (1..=PARTS).step_by(2) {
        eprintln!("seeding part {part} of {PARTS}");
        let (one, next) = (with(SEED, part), with(SEED, part + 1));
        tokio::join!(run(&mut db, &one), run(&mut other, &next));
    }
    run(&mut db, COUNTS).await;
    run(&mut db, "vacuum analyze").await;
    // Housekeeping does this a few rows at a time.
    while queue::fold_history(&mut db).await.unwrap() > 0 {}
    run(
        &mut db,
        "vacuum analyze ended_counts, usage_days, error_days, success_periods, latency_periods; checkpoint",
    )
    .await;
}

async fn run(db: &mut PgConnection, statements: &str) {
    for statement in statements_of(statements) {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *db)
            .await
            .unwrap();
    }
}

/// `vacuum` must not share an implicit transaction with other statements; the other texts stay whole.
fn statements_of(text: &str) -> Vec<String> {
    if text.starts_with("vacuum") {
        text.split("; ").map(str::to_owned).collect()
    } else {
        vec![text.to_owned()]
    }
}
