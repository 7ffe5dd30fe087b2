//! After the drain: compares the rows, the objects and the logs with the answers that the clients got.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use jobs::{JobId, images::object_key};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    clients::Job,
    cluster::Cluster,
    history::History,
    photos::Photos,
    plans::{Expect, PICKY},
};

/// Counts of attempts, jobs and log lines: they show which paths the run took.
#[derive(Debug, Default)]
pub struct Counters(BTreeMap<&'static str, u64>);

/// A counter, and the text of the worker's log lines that it counts.
const LINES: [(&str, &str); 5] = [
    ("stale results refused", "the outcome is stale"),
    ("batches split", "a batch failed: trying its halves"),
    ("suspects run alone", "runs alone"),
    ("leases lost", "the lease is lost"),
    (
        "stores found away",
        "S3 or the model registry cannot be reached",
    ),
];

/// A counter, and the log file and text that it counts.
const STORES: [(&str, &str, &str); 2] = [
    ("statements without room", "postgres.log", NO_ROOM),
    ("uploads without room", "s3.log", NO_ROOM),
];
const NO_ROOM: &str = "No space left on device";

/// Counters that must not be zero after a long run.
const RARE: [&str; 4] = [
    "stale results refused",
    "batches split",
    "attempts lost",
    "attempts released",
];

impl Counters {
    pub fn rare(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RARE.iter()
            .map(|name| (*name, self.0.get(name).copied().unwrap_or(0)))
    }

    pub fn to_json(&self) -> Value {
        json!(self.0)
    }

    fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }
}

/// The row of a job, and its attempts.
struct Row<'a> {
    row: &'a Value,
    attempts: Vec<&'a Value>,
}

pub async fn judge(
    cluster: &Cluster,
    photos: &Photos,
    history: &History,
    client_jobs: &[Job],
) -> Counters {
    let mut counters = Counters::default();
    let live = cluster.rows("select to_jsonb(j) from live_jobs j").await;
    for row in &live {
        history.violation("I2", format!("still live: {row}"));
    }
    let rows = cluster.rows("select to_jsonb(j) from ops.jobs j").await;
    let attempts = cluster
        .rows("select to_jsonb(a) from ops.attempts a order by a.job_id, a.number")
        .await;
    let mut by_job: HashMap<&str, Vec<&Value>> = HashMap::new();
    for attempt in &attempts {
        by_job
            .entry(attempt["job_id"].as_str().unwrap())
            .or_default()
            .push(attempt);
        counters.add(attempt_name(attempt), 1);
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| Row {
            row,
            attempts: by_job
                .remove(row["job_id"].as_str().unwrap())
                .unwrap_or_default(),
        })
        .collect();

    check_identities(history, &rows, client_jobs);
    for row in &rows {
        check_budgets(history, row);
    }
    for job in client_jobs {
        if job.plan.expect == Expect::Result && job.status() == "failed" {
            counters.add("good photos given up", 1);
        }
        if job.plan.model == PICKY && job.status() == "succeeded" {
            counters.add("neighbours of white images", 1);
        }
        counters.add(
            match job.status() {
                "succeeded" => "jobs succeeded",
                "failed" => "jobs failed",
                "canceled" => "jobs canceled",
                _ => "jobs open",
            },
            1,
        );
    }
    if photos.references() == 0 {
        history.violation("I9", "there was nothing to compare with");
    }
    check_objects(cluster, history, &rows).await;
    for member in &cluster.workers {
        let log = std::fs::read_to_string(&member.log).unwrap_or_default();
        for (name, words) in LINES {
            counters.add(
                name,
                log.lines().filter(|line| line.contains(words)).count() as u64,
            );
        }
        check_panics(history, &member.name, &log);
    }
    for (name, file, words) in STORES {
        let log = std::fs::read_to_string(history.folder().join(file)).unwrap_or_default();
        counters.add(
            name,
            log.lines().filter(|line| line.contains(words)).count() as u64,
        );
    }
    for member in &cluster.apis {
        let log = std::fs::read_to_string(&member.log).unwrap_or_default();
        check_panics(history, &member.name, &log);
    }
    counters
}

fn attempt_name(attempt: &Value) -> &'static str {
    match attempt["outcome"].as_str() {
        Some("succeeded") => "attempts succeeded",
        Some("failed") => "attempts failed",
        Some("retried") => "attempts retried",
        Some("postponed") => "attempts postponed",
        Some("released") => "attempts released",
        Some("lost") => "attempts lost",
        Some("timed_out") => "attempts timed out",
        Some("canceled") => "attempts canceled",
        _ => "attempts running",
    }
}

/// Checks that no job was lost, duplicated, changed, or created by a refused submit.
fn check_identities(history: &History, rows: &[Row<'_>], client_jobs: &[Job]) {
    let ids: HashMap<&str, &Value> = rows
        .iter()
        .map(|row| (row.row["id"].as_str().unwrap(), row.row))
        .collect();
    for job in client_jobs {
        let Some(row) = ids.get(job.id.as_str()) else {
            history.violation("I1", format!("lost: {} has no row", job.id));
            continue;
        };
        if row["metadata"]["submit"] != job.plan.tag.as_str() {
            history.violation(
                "I12",
                format!("{} answers for another submit: {row}", job.id),
            );
        }
        let ended = job.ended.as_ref();
        if ended.is_some_and(|ended| {
            ended["status"] != row["status"] || ended["result"] != row["result"]
        }) {
            history.violation(
                "I3",
                format!("changed: {} was told {ended:?}, the row says {row}", job.id),
            );
        }
    }
    let mut by_submit: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        if let Some(tag) = row.row["metadata"]["submit"].as_str() {
            by_submit
                .entry(tag)
                .or_default()
                .push(row.row["id"].as_str().unwrap());
        }
    }
    let client_jobs: HashSet<&str> = client_jobs
        .iter()
        .map(|job| job.plan.tag.as_str())
        .collect();
    for (tag, ids) in by_submit {
        if !client_jobs.contains(tag) && !history.is_unknown(tag) {
            history.violation(
                "I12",
                format!("{ids:?}: the submit {tag} was refused, or left half-way"),
            );
        }
        if ids.len() > 1 {
            history.violation(
                "I12",
                format!("duplicated: the submit {tag} became {ids:?}"),
            );
        }
    }
}

/// Checks that attempts and interruptions are counted, and within their limits.
fn check_budgets(history: &History, Row { row, attempts }: &Row<'_>) {
    let number = |name: &str| row[name].as_u64().unwrap_or(0) as usize;
    let outcomes = |wanted: &str| {
        attempts
            .iter()
            .filter(|attempt| attempt["outcome"] == wanted)
            .count()
    };
    let charged = attempts
        .iter()
        .filter(|attempt| attempt["charged"] == true)
        .count();
    let broken = |how: &str| {
        let attempts: Vec<_> = attempts.iter().map(|attempt| &attempt["outcome"]).collect();
        history.violation("I10/I11", format!("{how}: {row}, attempts {attempts:?}"));
    };
    let is_free = |attempt: &&Value| {
        let outcome = attempt["outcome"].as_str().unwrap_or_default();
        ["postponed", "released", "lost"].contains(&outcome)
    };
    if attempts
        .iter()
        .copied()
        .filter(is_free)
        .any(|attempt| attempt["charged"] == true)
    {
        broken("an attempt is charged that the job had no part in");
    }
    if charged != number("attempts_charged") || charged > number("attempts_max") {
        broken("attempts are charged wrongly");
    }
    if outcomes("lost") != number("interruptions")
        || number("interruptions") > number("interruptions_max")
    {
        broken("interruptions are counted wrongly");
    }
    let numbers: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt["number"].as_u64())
        .collect();
    if !numbers.windows(2).all(|pair| pair[0] < pair[1]) {
        broken("two attempts have one number");
    }
    let code = row["problem"]["code"].as_str().unwrap_or_default();
    match (row["status"].as_str().unwrap_or_default(), code) {
        ("failed", "image_undecodable" | "model_error") if outcomes("failed") != 1 => {
            broken("the image's trouble was not found once");
        }
        ("failed", "too_many_interruptions")
            if number("interruptions") < number("interruptions_max") =>
        {
            broken("given up too early");
        }
        ("failed", "internal" | "attempt_timed_out") if charged < number("attempts_max") => {
            broken("given up too early");
        }
        _ => {}
    }
}

/// Checks that every job has its image, and that every image has its object, with the size and digest of its row.
async fn check_objects(cluster: &Cluster, history: &History, rows: &[Row<'_>]) {
    let images = cluster
        .rows("select to_jsonb(i) || jsonb_build_object('digest', encode(sha256, 'hex')) from images i where purged_at is null")
        .await;
    let mut known = HashSet::new();
    for image in &images {
        let text = |name: &str| image[name].as_str().unwrap();
        let (sha256, upload) = (
            text("digest").parse().unwrap(),
            text("upload").parse().unwrap(),
        );
        let key = object_key(text("owner"), sha256, upload);
        let until = Instant::now() + Duration::from_secs(10);
        let got = loop {
            match cluster.store.get(&key, sha256).await {
                Err(jobs::object_store::StoreError::Unavailable(_)) if Instant::now() < until => {
                    sleep(Duration::from_millis(200)).await;
                }
                got => break got,
            }
        };
        match got {
            Ok(bytes) if bytes.len() as u64 == image["bytes"].as_u64().unwrap() => {}
            Ok(bytes) => {
                history.violation("I7", format!("{key} has {} bytes: {image}", bytes.len()));
            }
            Err(error) => history.violation("I7", format!("{key}: {error}")),
        }
        known.insert(format!("sha256:{}", text("digest")));
    }
    for Row { row, .. } in rows {
        if !known.contains(row["image"].as_str().unwrap_or_default()) {
            let id: Option<JobId> = row["id"].as_str().and_then(|id| id.parse().ok());
            history.violation("I8", format!("{id:?} has no image"));
        }
    }
}

fn check_panics(history: &History, name: &str, log: &str) {
    for line in log.lines().filter(|line| line.contains("panicked at")) {
        history.violation("panic", format!("{name}: {line}"));
    }
}
