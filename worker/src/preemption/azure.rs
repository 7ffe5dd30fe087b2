//! Azure, scheduled events: one document for all machines of a scale set or an availability set, with at least 30 seconds
//! for a `Preempt`. Events that are over or called off are gone from it.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::{
    ANSWER, Fault, Service, Sight, left_until,
    service::{Answer, http_time},
};

const NAME_PATH: &str = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
const EVENTS_PATH: &str = "/metadata/scheduledevents?api-version=2020-07-01";
const HEADER: (&str, &str) = ("metadata", "true");
/// The first question ever of a machine turns the events on, which may take two minutes.
const FIRST_ANSWER: Duration = Duration::from_secs(130);
const PROMISED: Duration = Duration::from_secs(30);
/// Names of machines have up to 64 characters, in scale sets some more.
const NAME_BYTES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Azure {
    /// Of this machine, as events name it.
    name: Option<String>,
    answered: bool,
}

impl Azure {
    /// Whether this is Azure: it knows this machine's name.
    pub(super) async fn find(service: &Service) -> Option<Self> {
        let name = name(service).await.ok()?;
        Some(Self {
            name: Some(name),
            answered: false,
        })
    }

    pub(super) async fn look(&mut self, service: &Service) -> Result<Sight, Fault> {
        if self.name.is_none() {
            self.name = Some(name(service).await?);
        }
        let name = self.name.as_deref().unwrap_or_default();
        let longest = if self.answered { ANSWER } else { FIRST_ANSWER };
        let answer = service
            .ask(Method::GET, EVENTS_PATH, HEADER, longest)
            .await?;
        let sight = read(&answer, name)?;
        self.answered = true;
        Ok(sight)
    }
}

async fn name(service: &Service) -> Result<String, Fault> {
    let answer = service.ask(Method::GET, NAME_PATH, HEADER, ANSWER).await?;
    let name = answer.text()?.trim();
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_name {
        Ok(name.to_owned())
    } else {
        Err(Fault::Garbled("no name of a machine".into()))
    }
}

fn read(answer: &Answer, name: &str) -> Result<Sight, Fault> {
    let document: Value =
        serde_json::from_str(answer.text()?).map_err(|error| Fault::Garbled(error.to_string()))?;
    let events = document["Events"].as_array();
    let events = events.ok_or_else(|| Fault::Garbled("no list of events".into()))?;
    let ends = events.iter().filter(|event| ends(event, name));
    // The machine has as long as the first of them leaves it.
    let notices = ends.map(|event| {
        let before = event["NotBefore"].as_str();
        let left = match before {
            // Under way.
            Some("") => Duration::ZERO,
            time => left_until(time.and_then(http_time), answer.now(), PROMISED),
        };
        let what = event["EventType"].as_str().unwrap_or_default();
        (left, what.to_owned())
    });
    let first = notices.min_by_key(|(left, _)| *left);
    Ok(first.map_or(Sight::Clear, |(left, what)| Sight::Notice { left, what }))
}

/// Whether this event takes this machine away. Freezes and reboots end nothing that a lease would not bridge.
fn ends(event: &Value, name: &str) -> bool {
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

    use super::{Answer, Sight, read};

    fn answer(status: u16, body: String) -> Answer {
        let mut headers = HeaderMap::new();
        let date = "Mon, 19 Sep 2016 18:29:27 GMT".parse().expect("a header");
        headers.insert(DATE, date);
        Answer {
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

    fn left(events: &[Value]) -> Option<u64> {
        let document = json!({"DocumentIncarnation": 3, "Events": events});
        match read(&answer(200, document.to_string()), "vm-7").expect("a document") {
            Sight::Notice { left, .. } => Some(left.as_secs()),
            _ => None,
        }
    }

    const BEFORE: &str = "Mon, 19 Sep 2016 18:29:57 GMT";

    #[test]
    fn a_preemption_of_this_machine_is_a_notice() {
        assert_eq!(left(&[]), None);
        assert_eq!(left(&[event("Preempt", "vm-7", BEFORE)]), Some(30));
        assert_eq!(left(&[event("Terminate", "VM-7", BEFORE)]), Some(30));
        let started = event("Preempt", "vm-7", "");
        assert_eq!(left(std::slice::from_ref(&started)), Some(0));
        let both = [event("Terminate", "vm-7", BEFORE), started];
        assert_eq!(left(&both), Some(0), "the first one counts");
        let odd = event("Preempt", "vm-7", "soon");
        assert_eq!(left(&[odd]), Some(30), "as promised");
    }

    #[test]
    fn a_neighbors_end_and_a_passing_freeze_are_none() {
        assert_eq!(left(&[event("Preempt", "vm-8", BEFORE)]), None);
        assert_eq!(left(&[event("Freeze", "vm-7", BEFORE)]), None);
        assert_eq!(left(&[json!(null), json!({"EventType": "Preempt"})]), None);
    }

    #[test]
    fn what_is_no_document_is_no_notice() {
        for garbage in ["", "[]", "{}", "<html>", r#"{"Events": "Preempt"}"#] {
            assert!(
                read(&answer(200, garbage.into()), "vm-7").is_err(),
                "{garbage:?}"
            );
        }
        let document = json!({"Events": [event("Preempt", "vm-7", BEFORE)]}).to_string();
        for status in [400, 401, 500] {
            assert!(read(&answer(status, document.clone()), "vm-7").is_err());
        }
    }
}
