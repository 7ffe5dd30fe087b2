//! One submit, until it is known what became of it.

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

/// What one try came to.
enum Sent {
    Accepted(Value),
    Refused(u16, String),
    /// Whether there is a job now, nobody has told.
    Unknown(String),
}

impl Client {
    /// The job, if the client knows of one in the end.
    pub(super) async fn submit(&self, plan: Plan, mut dice: StdRng) -> Option<Job> {
        if plan.expect == Expect::Nothing {
            self.leave_in_the_middle(&plan, &mut dice).await;
            return None;
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let front = dice.random_range(0..self.fronts.len());
            let began = Instant::now();
            match self.send(&plan, front).await {
                Sent::Accepted(body) => {
                    let facts = json!({ "tag": plan.tag, "id": body["id"], "tries": tries });
                    self.history.submit("ok", &facts);
                    if plan.expect == Expect::Refused {
                        self.history
                            .violation("input", format!("{} was accepted", plan.picture.name));
                    }
                    let mut job = Job::new(plan, &body, began);
                    self.saw(&mut job, &body);
                    // Readable at once, by whichever process.
                    let other = dice.random_range(0..self.fronts.len());
                    self.look(&mut job, other, None).await;
                    return Some(job);
                }
                Sent::Refused(status, code) => {
                    let facts = json!({ "tag": plan.tag, "status": status, "code": code });
                    self.history.submit("refused", &facts);
                    if plan.expect != Expect::Refused {
                        self.history
                            .violation("input", format!("{}: {status} {code}", plan.tag));
                    }
                    return None;
                }
                Sent::Unknown(why) => {
                    let facts = json!({ "tag": plan.tag, "why": why, "tries": tries });
                    // With a key the same can be sent again; without one it might become two.
                    if plan.key.is_none() || self.gives_up() {
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

    async fn send(&self, plan: &Plan, front: usize) -> Sent {
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
        // What is judged is what becomes of jobs, not that some were spared.
        let request = request.header("Cache-Control", "no-cache");
        let answer = match request.bearer_auth(&self.key).send().await {
            Ok(answer) => answer,
            Err(error) => return Sent::Unknown(error.to_string()),
        };
        let status = answer.status().as_u16();
        let is_told_when = Self::is_told_when(&answer);
        let body: Value = match answer.json().await {
            Ok(body) => body,
            Err(error) => return Sent::Unknown(error.to_string()),
        };
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        match status {
            200 | 202 => Sent::Accepted(body),
            429 | 503 => {
                if !is_told_when {
                    self.history
                        .violation("I18", format!("{status} {code} without Retry-After"));
                }
                Sent::Unknown(code)
            }
            500.. => {
                self.history
                    .violation("answers", format!("{}: {status} {body}", plan.tag));
                Sent::Unknown(code)
            }
            _ => Sent::Refused(status, code),
        }
    }

    pub(super) fn is_told_when(answer: &Response) -> bool {
        answer.headers().contains_key("retry-after")
    }

    /// Half of the body, and no more.
    async fn leave_in_the_middle(&self, plan: &Plan, dice: &mut StdRng) {
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
