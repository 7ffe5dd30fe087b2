//! One measurement: makes a new database, runs a driver on it, and returns the figures.

use std::{
    process::Stdio,
    str::FromStr,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    postgres::{PgConnectOptions, PgListener},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use super::{LISTENED, systems::System};

/// The measurements, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Bulk,
    Submit1,
    Submit16,
    SubmitListened,
    Submit64,
    Drain,
    DrainHundreds,
    Pickup,
}

impl Op {
    pub(super) const ALL: [Self; 8] = [
        Self::Bulk,
        Self::Submit1,
        Self::Submit16,
        Self::SubmitListened,
        Self::Submit64,
        Self::Drain,
        Self::DrainHundreds,
        Self::Pickup,
    ];
}

/// A drain that takes longer has failed.
const DRAIN_MAX: Duration = Duration::from_mins(3);
const PICKUPS: usize = 400;
const LISTENERS: usize = 100;

/// The Postgres of `DATABASE_URL`.
#[derive(Debug)]
pub(super) struct Server {
    admin: String,
}

impl Server {
    /// # Panics
    /// If the server could lose commits: its figures would be worthless.
    pub(super) async fn connect() -> Self {
        let this = Self {
            admin: std::env::var("DATABASE_URL").expect("tests/bench/run sets DATABASE_URL"),
        };
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            assert_eq!(
                this.ask(&format!("show {setting}")).await,
                "on",
                "{setting}"
            );
        }
        this
    }

    pub(super) async fn version(&self) -> String {
        self.ask("show server_version").await
    }

    async fn ask(&self, question: &str) -> String {
        let mut db = connection(&self.admin).await;
        sqlx::query_scalar(AssertSqlSafe(question))
            .fetch_one(&mut db)
            .await
            .unwrap()
    }

    async fn admin(&self, statement: &str) {
        let mut db = connection(&self.admin).await;
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut db)
            .await
            .unwrap();
    }

    /// Runs one measurement of one system. Returns its readings by name.
    pub(super) async fn run(
        &self,
        system: &System,
        op: Op,
        jobs: usize,
    ) -> Vec<(&'static str, f64)> {
        let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
        self.admin(&format!("create database {name}")).await;
        let mut url = reqwest::Url::parse(&self.admin).unwrap();
        url.set_path(&name);
        let readings = in_database(system, op, jobs, url.as_str()).await;
        self.admin(&format!("drop database {name} with (force)"))
            .await;
        readings
    }
}

async fn connection(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url).unwrap();
    PgConnection::connect_with(&options).await.unwrap()
}

async fn in_database(system: &System, op: Op, jobs: usize, url: &str) -> Vec<(&'static str, f64)> {
    ask(system, url, "setup", 0).await;
    let singles = system.single_submits;
    match op {
        Op::Bulk => vec![("bulk_jobs_per_s", rate(system, url, "bulk", jobs).await)],
        Op::Submit1 => vec![(
            "submit_1_jobs_per_s",
            rate(system, url, "insert1", singles.min(2_400)).await,
        )],
        Op::Submit16 => vec![(
            "submit_16_jobs_per_s",
            rate(system, url, "insert16", singles).await,
        )],
        Op::Submit64 => vec![(
            "submit_64_jobs_per_s",
            rate(system, url, "insert64", singles).await,
        )],
        Op::SubmitListened => {
            let listeners = listen(url).await;
            let rate = rate(system, url, "insert16", singles).await;
            drop(listeners);
            vec![(LISTENED, rate)]
        }
        Op::Drain => vec![(
            "drain_jobs_per_s",
            drain(system, url, jobs, system.best).await,
        )],
        Op::DrainHundreds => {
            vec![(
                "drain_100_jobs_per_s",
                drain(system, url, jobs, system.by_hundreds).await,
            )]
        }
        Op::Pickup => {
            let figures = ask(system, url, "latency", PICKUPS).await;
            let figure = |key: &str| figures[key].as_f64().unwrap();
            vec![
                ("pickup_p50_ms", figure("p50")),
                ("pickup_p99_ms", figure("p99")),
            ]
        }
    }
}

fn command(system: &System, url: &str, op: &str, count: usize) -> Command {
    let mut command = Command::new(&system.command[0]);
    command
        .args(&system.command[1..])
        .args([op, &count.to_string()])
        .env("QB_DSN", url)
        .kill_on_drop(true);
    command
}

/// Runs a driver. Returns its last JSON line.
async fn ask(system: &System, url: &str, op: &str, count: usize) -> Value {
    let output = command(system, url, op, count)
        .envs(system.best.iter().copied())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().rev().find(|line| line.starts_with('{'));
    let Some(last) = last.filter(|_| output.status.success()) else {
        panic!(
            "{} {op}: {}",
            system.name,
            String::from_utf8_lossy(&output.stderr)
        );
    };
    serde_json::from_str(last).unwrap()
}

async fn rate(system: &System, url: &str, op: &str, count: usize) -> f64 {
    ask(system, url, op, count).await["rate"].as_f64().unwrap()
}

/// Opens the LISTEN connections of idle workers.
async fn listen(url: &str) -> Vec<PgListener> {
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS {
        let mut listener = PgListener::connect(url).await.unwrap();
        let channels = [jobs::queue::QUEUED_CHANNEL, jobs::queue::CHANGED_CHANNEL];
        listener.listen_all(channels).await.unwrap();
        listeners.push(listener);
    }
    listeners
}

/// Jobs per second until the database holds no unfinished job.
async fn drain(system: &System, url: &str, jobs: usize, settings: &[(&str, &str)]) -> f64 {
    ask(system, url, "bulk", jobs).await;
    let mut db = connection(url).await;
    for statement in ["vacuum analyze", "checkpoint"] {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut db)
            .await
            .unwrap();
    }
    let mut driver = command(system, url, "drain", jobs)
        .envs(settings.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().expect("READY") != "READY" {}
    let reader = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let began = Instant::now();
    write_line(&mut driver, "GO").await;
    let has_jobs_left = || sqlx::query_scalar::<_, bool>(AssertSqlSafe(system.has_unfinished_sql));
    while has_jobs_left().fetch_one(&mut db).await.unwrap() {
        assert!(
            began.elapsed() < DRAIN_MAX,
            "{} does not drain",
            system.name
        );
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let took = began.elapsed();
    write_line(&mut driver, "STOP").await;
    if tokio::time::timeout(Duration::from_secs(5), driver.wait())
        .await
        .is_err()
    {
        driver.kill().await.unwrap();
    }
    reader.abort();
    jobs as f64 / took.as_secs_f64()
}

async fn write_line(driver: &mut Child, line: &str) {
    let stdin = driver.stdin.as_mut().unwrap();
    drop(stdin.write_all(format!("{line}\n").as_bytes()).await); // the driver may have ended already
    drop(stdin.flush().await);
}
