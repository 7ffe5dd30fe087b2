//! A client follows one job from the 202 to its end.

use std::time::{Duration, Instant};

use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use super::Client;
use crate::plans::{Expect, Plan};

/// A job, as the answers of the API described it to its client.
#[derive(Debug)]
pub struct Job {
    pub id: String,
    pub plan: Plan,
    /// Version in the last answer.
    version: i64,
    /// The fields that must not change after the end of the job.
    pub ended: Option<Value>,
    /// Whether a cancel was acknowledged.
    pub canceled: bool,
    submitted: Instant,
}

const ENDS: [&str; 4] = ["succeeded", "failed", "canceled", "expired"];

impl Job {
    pub(super) fn new(plan: Plan, body: &Value, submitted: Instant) -> Self {
        Self {
            id: body["id"].as_str().expect("a job has an id").into(),
            plan,
            version: 0,
            ended: None,
            canceled: false,
            submitted,
        }
    }

    pub fn status(&self) -> &str {
        let ended = self.ended.as_ref();
        ended
            .and_then(|ended| ended["status"].as_str())
            .unwrap_or("open")
    }

    pub fn error_code(&self) -> &str {
        let ended = self.ended.as_ref();
        ended
            .and_then(|ended| ended["error"]["code"].as_str())
            .unwrap_or("")
    }
}

impl Client {
    /// Cancels the job if its cancel is due. Otherwise reads the job, sometimes by long polling.
    pub(super) async fn follow(&self, job: &mut Job, dice: &mut StdRng) {
        let front = dice.random_range(0..self.fronts.len());
        let due = job.plan.cancel_after_ms.map(Duration::from_millis);
        if job.ended.is_none()
            && !job.canceled
            && due.is_some_and(|due| job.submitted.elapsed() >= due)
        {
            return self.cancel(job, front).await;
        }
        let wait = (job.ended.is_none() && dice.random_bool(0.3)).then_some(1);
        self.read_job(job, front, wait).await;
    }

    async fn cancel(&self, job: &mut Job, front: usize) {
        let url = format!("{}/v1/jobs/{}/cancel", self.fronts[front], job.id);
        let asked = self.http.post(url).bearer_auth(&self.key).send().await;
        let Ok(answer) = asked else { return };
        match answer.status().as_u16() {
            200 | 202 => {
                job.canceled = true;
                self.history
                    .note("cancel acknowledged", &json!({ "id": job.id }));
                if let Ok(body) = answer.json().await {
                    self.record_answer(job, &body);
                }
            }
            // The job has already ended.
            409 => job.plan.cancel_after_ms = None,
            429 | 503 => {}
            status => self
                .history
                .violation("answers", format!("{}: cancel {status}", job.id)),
        }
    }

    /// Reads the job once; with `wait` by long polling for so many seconds.
    pub(super) async fn read_job(&self, job: &mut Job, front: usize, wait: Option<u8>) {
        let url = format!("{}/v1/jobs/{}", self.fronts[front], job.id);
        let mut request = self.http.get(url).bearer_auth(&self.key);
        if let Some(seconds) = wait {
            request = request
                .header("Prefer", format!("wait={seconds}"))
                .header("If-None-Match", format!("\"{}\"", job.version));
        }
        let Ok(answer) = request.send().await else {
            return;
        };
        match answer.status().as_u16() {
            200 => {
                if let Ok(body) = answer.json::<Value>().await {
                    self.record_answer(job, &body);
                }
            }
            304 if wait.is_some() => {}
            404 | 410 => self
                .history
                .violation("I1", format!("{} is not there", job.id)),
            429 | 503 => {
                if !Self::has_retry_after(&answer) {
                    self.history.violation("I18", "503 without Retry-After");
                }
            }
            status => self
                .history
                .violation("answers", format!("{}: {status}", job.id)),
        }
    }

    /// Compares an answer with the earlier answers about the job.
    pub(super) fn record_answer(&self, job: &mut Job, body: &Value) {
        let (version, status) = (body["version"].as_i64(), body["status"].as_str());
        let (Some(version), Some(status)) = (version, status) else {
            return self
                .history
                .violation("answers", format!("{}: {body}", job.id));
        };
        if version != job.version {
            let facts = json!({ "id": job.id, "version": version, "status": status, "attempts": body["attempts"] });
            self.history.note("seen", &facts);
        }
        if version < job.version {
            let how = format!(
                "{} went back from version {} to {version}",
                job.id, job.version
            );
            self.history.violation("I15", how);
        }
        job.version = version;
        let now = ENDS.contains(&status).then(|| {
            json!({ "status": status, "version": version, "result": body["result"], "error": body["error"],
                    "finished_at": body["finished_at"] })
        });
        match (&job.ended, now) {
            (Some(before), now) if now.as_ref() != Some(before) => {
                let how = format!("{} changed after its end: {before} became {body}", job.id);
                self.history.violation("I3", how);
            }
            (None, Some(now)) => {
                job.ended = Some(now);
                self.check_end(job);
            }
            _ => {}
        }
    }

    /// Checks the end of the job. No fault excuses a wrong end.
    fn check_end(&self, job: &Job) {
        let Job { id, plan, .. } = job;
        let (status, code) = (job.status(), job.error_code());
        if job.canceled && status == "succeeded" {
            self.history.violation(
                "I13",
                format!("{id} succeeded after its cancel was acknowledged"),
            );
        }
        let excused = match (status, plan.expect) {
            ("canceled", _) => plan.cancel_after_ms.is_some(),
            ("succeeded", Expect::Result) => {
                let result = &job.ended.as_ref().expect("the job has ended")["result"];
                self.photos
                    .matches_reference(&plan.picture.name, plan.model, result)
            }
            ("failed", Expect::Fails(expected)) if code == expected => true,
            // Faults used up the attempts. The oracle checks that these faults happened.
            ("failed", _) => {
                ["internal", "attempt_timed_out", "too_many_interruptions"].contains(&code)
            }
            _ => false,
        };
        if !excused {
            let ended = job.ended.as_ref().expect("the job has ended");
            let how = format!(
                "{id} ({} on {}) ended as {ended}",
                plan.picture.name, plan.model
            );
            self.history.violation("I9/I11/I19", how);
        }
    }
}
