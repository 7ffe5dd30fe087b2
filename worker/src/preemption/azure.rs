//! Azure, scheduled events: one document for all machines of a scale set or an availability set.
//!
//! A `Preempt` comes at least 30 seconds before the end. Past and canceled events are removed from the document.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::{
    RESPONSE_TIMEOUT, SpotStatus,
    metadata_service::{MetadataService, Response, ServiceError, parse_http_time},
    time_left_until,
};

const NAME_PATH: &str = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
const EVENTS_PATH: &str = "/metadata/scheduledevents?api-version=2020-07-01";
const HEADER: (&str, &str) = ("metadata", "true");
/// The first request of a machine enables the events, which may take two minutes.
const FIRST_RESPONSE_TIMEOUT: Duration = Duration::from_secs(130);
const PROMISED_TIME: Duration = Duration::from_secs(30);
/// Most bytes of a machine name. Names have up to 64, and a few more in scale sets.
const NAME_BYTES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Azure {
    /// The name of this machine, as in events.
    name: Option<String>,
    has_responded: bool,
}

impl Azure {
    /// Returns `Some` on Azure: its service has the name of this machine.
    pub(super) async fn detect(service: &MetadataService) -> Option<Self> {
        let name = name(service).await.ok()?;
        Some(Self {
            name: Some(name),
            has_responded: false,
        })
    }

    pub(super) async fn poll(
        &mut self,
        service: &MetadataService,
    ) -> Result<SpotStatus, ServiceError> {
        if self.name.is_none() {
            self.name = Some(name(service).await?);
        }
        let name = self.name.as_deref().unwrap_or_default();
        let longest = if self.has_responded {
            RESPONSE_TIMEOUT
        } else {
            FIRST_RESPONSE_TIMEOUT
        };
        let response = service
            .request(Method::GET, EVENTS_PATH, HEADER, longest)
            .await?;
        let status = parse(&response, name)?;
        self.has_responded = true;
        Ok(status)
    }
}

async fn name(service: &MetadataService) -> Result<String, ServiceError> {
    let response = service
        .request(Method::GET, NAME_PATH, HEADER, RESPONSE_TIMEOUT)
        .await?;
    let name = response.text()?.trim();
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_name {
        Ok(name.to_owned())
    } else {
        Err(ServiceError::BadResponse(
            "not the name of a machine".into(),
        ))
    }
}

fn parse(response: &Response, name: &str) -> Result<SpotStatus, ServiceError> {
    let document: Value = serde_json::from_str(response.text()?)
        .map_err(|error| ServiceError::BadResponse(error.to_string()))?;
    let events = document["Events"].as_array();
    let events = events.ok_or_else(|| ServiceError::BadResponse("no list `Events`".into()))?;
    let ends = events.iter().filter(|event| ends_machine(event, name));
    // The earliest event counts.
    let notices = ends.map(|event| {
        let not_before = event["NotBefore"].as_str();
        let time_left = match not_before {
            // The event has started.
            Some("") => Duration::ZERO,
            time => time_left_until(
                time.and_then(parse_http_time),
                response.service_time(),
                PROMISED_TIME,
            ),
        };
        let event = event["EventType"].as_str().unwrap_or_default();
        (time_left, event.to_owned())
    });
    let first = notices.min_by_key(|(time_left, _)| *time_left);
    Ok(first.map_or(SpotStatus::NoNotice, |(time_left, event)| {
        SpotStatus::Notice { time_left, event }
    }))
}

/// Whether the event ends this machine. Freezes and reboots do not: jobs survive them by their leases.
fn ends_machine(event: &Value, name: &str) -> bool {
    let kind = event["EventType"].as_str();
    let resources = event["Resources"].as_array();
    matches!(kind, Some("Preempt" | "Terminate"))
        && resources.is_some_and(|resources| {
            resources
                .iter()
                .filter_map(Value::as_str)
                .any(|resource| resource.eq_ignore_ascii_case(name))
        })
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode, header::DATE};
    use serde_json::{Value, json};

    use super::{Response, SpotStatus, parse};

    fn response(status: u16, body: String) -> Response {
        let mut headers = HeaderMap::new();
        let date = "Mon, 19 Sep 2016 18:29:27 GMT".parse().expect("a header");
        headers.insert(DATE, date);
        Response {
            status: StatusCode::from_u16(status).expect("a status"),
            headers,
            body: body.into(),
        }
    }

    fn event(kind: &str, machine: &str, before: &str) -> Value {
        json!({
            "EventId": "f020ba2e-3bc0-4c40-a10b-86575a9eabd5", "EventType": kind, "ResourceType": "VirtualMachine",
            "Resources": [machine], "EventStatus": "Scheduled", "NotBefore": before, "EventSource": "Platform",
        })
    }

    fn seconds_left(events: &[Value]) -> Option<u64> {
        let document = json!({"DocumentIncarnation": 3, "Events": events});
        match parse(&response(200, document.to_string()), "vm-7").expect("a document") {
            SpotStatus::Notice { time_left, .. } => Some(time_left.as_secs()),
            _ => None,
        }
    }

    const BEFORE: &str = "Mon, 19 Sep 2016 18:29:57 GMT";

    #[test]
    fn a_preemption_of_this_machine_is_a_notice() {
        assert_eq!(seconds_left(&[]), None);
        assert_eq!(seconds_left(&[event("Preempt", "vm-7", BEFORE)]), Some(30));
        assert_eq!(
            seconds_left(&[event("Terminate", "VM-7", BEFORE)]),
            Some(30)
        );
        let started = event("Preempt", "vm-7", "");
        assert_eq!(seconds_left(std::slice::from_ref(&started)), Some(0));
        let both = [event("Terminate", "vm-7", BEFORE), started];
        assert_eq!(seconds_left(&both), Some(0), "the earliest one counts");
        let odd = event("Preempt", "vm-7", "soon");
        assert_eq!(seconds_left(&[odd]), Some(30), "as promised");
    }

    #[test]
    fn the_end_of_another_machine_and_a_freeze_are_no_notices() {
        assert_eq!(seconds_left(&[event("Preempt", "vm-8", BEFORE)]), None);
        assert_eq!(seconds_left(&[event("Freeze", "vm-7", BEFORE)]), None);
        assert_eq!(
            seconds_left(&[json!(null), json!({"EventType": "Preempt"})]),
            None
        );
    }

    #[test]
    fn a_malformed_document_is_no_notice() {
        for garbage in ["", "[]", "{}", "<html>", r#"{"Events": "Preempt"}"#] {
            assert!(
                parse(&response(200, garbage.into()), "vm-7").is_err(),
                "{garbage:?}"
            );
        }
        let document = json!({"Events": [event("Preempt", "vm-7", BEFORE)]}).to_string();
        for status in [400, 401, 500] {
            assert!(parse(&response(status, document.clone()), "vm-7").is_err());
        }
    }
}
