//! The answers of each cloud's service.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use tokio::time::timeout;

use super::{
    Cloud, Server,
    http::{Answer, Request, http_time},
};

/// Name of this machine in Azure's events.
const MACHINE: &str = "vm-7";

impl Server {
    pub(super) async fn answer(&self, request: &Request) -> Answer {
        match self.cloud {
            Cloud::Aws => self.answer_as_aws(request),
            Cloud::Gcp => self.answer_as_gcp(request).await,
            Cloud::Azure => self.answer_as_azure(request),
        }
    }

    fn answer_as_aws(&self, request: &Request) -> Answer {
        let mut state = self.state();
        if request.path == "/latest/api/token" {
            let seconds = request.header("x-aws-ec2-metadata-token-ttl-seconds");
            let seconds = seconds.and_then(|seconds| seconds.parse().ok());
            let granted = seconds.is_some_and(|seconds: u32| (1..=21_600).contains(&seconds));
            if request.method != "PUT" || !granted {
                return Answer::new("400 Bad Request", "");
            }
            state.tokens += 1;
            return Answer::new("200 OK", format!("token-{}==", state.tokens));
        }
        let token = request.header("x-aws-ec2-metadata-token");
        let good = (state.tokens_refused + 1..=state.tokens)
            .any(|number| token == Some(format!("token-{number}==").as_str()));
        if !good {
            return Answer::new("401 Unauthorized", "");
        }
        let now = Utc::now() + state.ahead;
        match (request.path.as_str(), state.ends_at) {
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

    async fn answer_as_gcp(&self, request: &Request) -> Answer {
        if request.header("metadata-flavor") != Some("Google") {
            return Answer::new("403 Forbidden", "");
        }
        if request.path != "/computeMetadata/v1/instance/preempted" {
            return Answer::not_found();
        }
        let preempted = || self.state().ends_at.is_some();
        let tag = |preempted: bool| if preempted { "5ca1ab1e" } else { "0ddba11" };
        if request.param("wait_for_change") == Some("true") {
            let seconds = request
                .param("timeout_sec")
                .and_then(|seconds| seconds.parse().ok());
            // At most a second: a waiting request does not notice a later fault.
            let seconds = seconds.unwrap_or(1).min(1);
            let known = request.param("last_etag").unwrap_or_default();
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

    fn answer_as_azure(&self, request: &Request) -> Answer {
        if request.header("metadata") != Some("true") || request.param("api-version").is_none() {
            return Answer::new("400 Bad Request", "");
        }
        let mut state = self.state();
        match request.path.as_str() {
            "/metadata/instance/compute/name" => Answer::new("200 OK", MACHINE),
            "/metadata/scheduledevents" => {
                let event = |id: &str, machine: &str, before: String| {
                    json!({
                        "EventId": id, "EventType": "Preempt", "ResourceType": "VirtualMachine", "Resources": [machine],
                        "EventStatus": "Scheduled", "NotBefore": before, "EventSource": "Platform",
                    })
                };
                // The worker must ignore an event of another machine.
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
