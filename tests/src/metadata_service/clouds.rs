//! What each cloud's service answers.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use tokio::time::timeout;

use super::{
    Cloud, Server,
    http::{Answer, Question, http_time},
};

/// Of this machine, in Azure's events.
const MACHINE: &str = "vm-7";

impl Server {
    pub(super) async fn answer(&self, question: &Question) -> Answer {
        match self.cloud {
            Cloud::Aws => self.answer_as_aws(question),
            Cloud::Gcp => self.answer_as_gcp(question).await,
            Cloud::Azure => self.answer_as_azure(question),
        }
    }

    fn answer_as_aws(&self, question: &Question) -> Answer {
        let mut state = self.state();
        if question.path == "/latest/api/token" {
            let seconds = question.header("x-aws-ec2-metadata-token-ttl-seconds");
            let seconds = seconds.and_then(|seconds| seconds.parse().ok());
            let granted = seconds.is_some_and(|seconds: u32| (1..=21_600).contains(&seconds));
            if question.method != "PUT" || !granted {
                return Answer::new("400 Bad Request", "");
            }
            state.tokens += 1;
            return Answer::new("200 OK", format!("token-{}==", state.tokens));
        }
        let token = question.header("x-aws-ec2-metadata-token");
        let good = (state.tokens_refused + 1..=state.tokens)
            .any(|number| token == Some(format!("token-{number}==").as_str()));
        if !good {
            return Answer::new("401 Unauthorized", "");
        }
        let now = Utc::now() + state.ahead;
        match (question.path.as_str(), state.ends_at) {
            ("/latest/meta-data/spot/instance-action", Some(end)) => {
                state.notices_told += 1;
                let time = end.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                let action = json!({ "action": "terminate", "time": time });
                Answer::new("200 OK", action.to_string())
            }
            ("/latest/meta-data/events/recommendations/rebalance", _) if state.advises => {
                let time = now.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                Answer::new("200 OK", json!({ "noticeTime": time }).to_string())
            }
            _ => Answer::not_found(),
        }
    }

    async fn answer_as_gcp(&self, question: &Question) -> Answer {
        if question.header("metadata-flavor") != Some("Google") {
            return Answer::new("403 Forbidden", "");
        }
        if question.path != "/computeMetadata/v1/instance/preempted" {
            return Answer::not_found();
        }
        let preempted = || self.state().ends_at.is_some();
        let tag = |preempted: bool| if preempted { "5ca1ab1e" } else { "0ddba11" };
        if question.param("wait_for_change") == Some("true") {
            let seconds = question
                .param("timeout_sec")
                .and_then(|seconds| seconds.parse().ok());
            // No longer than a second, which it may: a question that is held knows nothing of a later fault.
            let seconds = seconds.unwrap_or(1).min(1);
            let known = question.param("last_etag").unwrap_or_default();
            let mut news = self.news.subscribe();
            let changed = news.wait_for(|_| tag(preempted()) != known);
            drop(timeout(Duration::from_secs(seconds), changed).await);
        }
        let preempted = preempted();
        if preempted {
            self.state().notices_told += 1;
        }
        let mut answer = Answer::new("200 OK", if preempted { "TRUE" } else { "FALSE" });
        answer.headers = vec![
            ("Metadata-Flavor", "Google".into()),
            ("ETag", tag(preempted).into()),
        ];
        answer
    }

    fn answer_as_azure(&self, question: &Question) -> Answer {
        if question.header("metadata") != Some("true") || question.param("api-version").is_none() {
            return Answer::new("400 Bad Request", "");
        }
        let mut state = self.state();
        match question.path.as_str() {
            "/metadata/instance/compute/name" => Answer::new("200 OK", MACHINE),
            "/metadata/scheduledevents" => {
                let event = |id: &str, machine: &str, before: String| {
                    json!({
                        "EventId": id, "EventType": "Preempt", "ResourceType": "VirtualMachine", "Resources": [machine],
                        "EventStatus": "Scheduled", "NotBefore": before, "EventSource": "Platform",
                    })
                };
                // A neighbor that goes is nobody's business here.
                let neighbor = event("n", "vm-8", http_time(Utc::now() + state.ahead));
                let mut events = vec![neighbor];
                if let Some(end) = state.ends_at {
                    state.notices_told += 1;
                    events.push(event("o", MACHINE, http_time(end)));
                }
                let document = json!({ "DocumentIncarnation": 1, "Events": events });
                Answer::new("200 OK", document.to_string())
            }
            _ => Answer::not_found(),
        }
    }
}
