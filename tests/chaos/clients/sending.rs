//! One submit, sent until its outcome is known.

use std::time::{Duration, Instant};

use rand::{RngExt, rngs::StdRng};
use reqwest::{
    Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{Client, Job};
use crate::{
    history::UNKNOWN,
    plans::{Expect, Plan},
};

/// Outcome of one try of a submit.
enum SubmitOutcome {
    Accepted(Value),
    Refused(u16, String),
    /// The client does not know whether the submit created a job.
    Unknown(String),
}

impl Client {
    /// Sends a submit. Returns the job if an API accepted the submit.
    pub(super) async fn submit(&self, plan: Plan, mut dice: StdRng) -> Option<Job> {
        if plan.expect == Expect::Nothing {
            self.abandon_upload(&plan, &mut dice).await;
            return None;
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let front = dice.random_range(0..self.fronts.len());
            let began = Instant::now();
            match self.send(&plan, front).await {
                SubmitOutcome::Accepted(body) => {
                    let facts = json!({ "tag": plan.tag, "id": body["id"], "tries": tries });
                    self.history.submit("ok", &facts);
                    if plan.expect == Expect::Refused {
                        self.history
                            .violation("input", format!("{} was accepted", plan.picture.name));
                    }
                    let mut job = Job::new(plan, &body, began);
                    self.record_answer(&mut job, &body);
                    // Every API process can read the job at once.
                    let other = dice.random_range(0..self.fronts.len());
                    self.read_job(&mut job, other, None).await;
                    return Some(job);
                }
                SubmitOutcome::Refused(status, code) => {
                    let facts = json!({ "tag": plan.tag, "status": status, "code": code });
                    self.history.submit("refused", &facts);
                    if plan.expect != Expect::Refused {
                        self.history
                            .violation("input", format!("{}: {status} {code}", plan.tag));
                    }
                    return None;
                }
                SubmitOutcome::Unknown(why) => {
                    let facts = json!({ "tag": plan.tag, "why": why, "tries": tries });
                    // Only a submit with a key is safe to repeat: without a key the second one may become a second job.
                    if plan.key.is_none() || self.has_given_up() {
                        self.history.submit(UNKNOWN, &facts);
                        if plan.key.is_some() {
                            self.history
                                .violation("I18", format!("{}: no answer, ever", plan.tag));
                        }
                        return None;
                    }
                    self.history.submit("sent again", &facts);
                    sleep(Duration::from_millis(dice.random_range(50..500))).await;
                }
            }
        }
    }

    async fn send(&self, plan: &Plan, front: usize) -> SubmitOutcome {
        let url = format!("{}/v1/jobs", self.fronts[front]);
        let image = plan.picture.bytes.clone();
        let request = if plan.multipart {
            let job = json!({ "model": plan.model, "metadata": { "submit": plan.tag } });
            let form = Form::new().text("job", job.to_string());
            let form = form.part("image", Part::bytes(image).file_name("photo"));
            self.http.post(url).multipart(form)
        } else {
            let query = [("model", plan.model), ("metadata.submit", &plan.tag)];
            self.http.post(url).query(&query).body(image)
        };
        let request = match &plan.key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        // Every submit must create a job: the run judges jobs, not cached predictions.
        let request = request.header("Cache-Control", "no-cache");
        let answer = match request.bearer_auth(&self.key).send().await {
            Ok(answer) => answer,
            Err(error) => return SubmitOutcome::Unknown(error.to_string()),
        };
        let status = answer.status().as_u16();
        let has_retry_after = Self::has_retry_after(&answer);
        let body: Value = match answer.json().await {
            Ok(body) => body,
            Err(error) => return SubmitOutcome::Unknown(error.to_string()),
        };
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        match status {
            200 | 202 => SubmitOutcome::Accepted(body),
            429 | 503 => {
                if !has_retry_after {
                    self.history
                        .violation("I18", format!("{status} {code} without Retry-After"));
                }
                SubmitOutcome::Unknown(code)
            }
            500.. => {
                self.history
                    .violation("answers", format!("{}: {status} {body}", plan.tag));
                SubmitOutcome::Unknown(code)
            }
            _ => SubmitOutcome::Refused(status, code),
        }
    }

    pub(super) fn has_retry_after(answer: &Response) -> bool {
        answer.headers().contains_key("retry-after")
    }

    /// Sends half of the body and closes the connection.
    async fn abandon_upload(&self, plan: &Plan, dice: &mut StdRng) {
        let front = dice.random_range(0..self.fronts.len());
        let host = self.fronts[front].trim_start_matches("http://");
        let image = &plan.picture.bytes;
        let head = format!(
            "POST /v1/jobs?model={}&metadata.submit={} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n",
            plan.model,
            plan.tag,
            self.key,
            image.len()
        );
        if let Ok(mut connection) = TcpStream::connect(host).await {
            drop(connection.write_all(head.as_bytes()).await);
            drop(connection.write_all(&image[..image.len() / 2]).await);
            sleep(Duration::from_millis(dice.random_range(0..50))).await;
            if dice.random_bool(0.5) {
                drop(connection.set_zero_linger());
            }
        }
        self.history
            .submit("left in the middle", &json!({ "tag": plan.tag }));
    }
}
