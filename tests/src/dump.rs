//! The queue as text without times and ids, for inline snapshots.

use std::fmt::Write;

use serde_json::Value;
use sqlx::{PgPool, Row};

/// A line for each job, in the order of submission, and a line for each ended attempt. `metadata.name` names a job.
pub async fn dump(db: &PgPool) -> String {
    let jobs = sqlx::query(
        "select job_id, coalesce(metadata->>'name', '?') as name, status, lease_no, attempts_charged, attempts_max,
                interruptions, interruptions_max, cancel_requested, worker, result, problem->>'code' as problem
         from ops.jobs order by job_id",
    );
    let mut text = String::new();
    for job in jobs.fetch_all(db).await.unwrap() {
        let (name, status): (&str, &str) = (job.get("name"), job.get("status"));
        let lease_no: i32 = job.get("lease_no");
        let charged: (i16, i16) = (job.get("attempts_charged"), job.get("attempts_max"));
        let interrupted: (i16, i16) = (job.get("interruptions"), job.get("interruptions_max"));
        write!(
            text,
            "{name} {status} lease={lease_no} charged={}/{} interruptions={}/{}",
            charged.0, charged.1, interrupted.0, interrupted.1
        )
        .unwrap();
        if job.get::<bool, _>("cancel_requested") {
            text.push_str(" cancel-requested");
        }
        if let Some(worker) = job.get::<Option<&str>, _>("worker") {
            write!(text, " worker={worker}").unwrap();
        }
        if let Some(result) = job.get::<Option<Value>, _>("result") {
            write!(text, " result={result}").unwrap();
        }
        if let Some(problem) = job.get::<Option<&str>, _>("problem") {
            write!(text, " problem={problem}").unwrap();
        }
        text.push('\n');
        let attempts = sqlx::query(
            "select number, worker, outcome, charged, problem->>'code' as problem from attempts where job_id = $1 order by number",
        )
        .bind(job.get::<uuid::Uuid, _>("job_id"));
        for attempt in attempts.fetch_all(db).await.unwrap() {
            let number: i16 = attempt.get("number");
            let worker: Option<&str> = attempt.get("worker");
            let outcome: &str = attempt.get("outcome");
            let charged = if attempt.get("charged") {
                "charged"
            } else {
                "free"
            };
            let problem: Option<&str> = attempt.get("problem");
            writeln!(
                text,
                "  {number} {} {outcome} {charged} {}",
                worker.unwrap_or("-"),
                problem.unwrap_or("-")
            )
            .unwrap();
        }
    }
    text
}
