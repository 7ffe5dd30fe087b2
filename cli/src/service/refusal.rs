//! A problem document (RFC 9457) as a person reads it: what, why, where, and what to do next.

use std::{fmt, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use wire::{Extensible, FieldError, ProblemCode};

#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// When to retry, if the service says so.
    pub(crate) retry_after: Option<Duration>,
    /// The document as the service wrote it, for `--json`; made here if a proxy answered instead.
    pub(crate) json: Value,
    problem: Box<Problem>,
    url: String,
}

/// A [`wire::Problem`] of which any field may be missing: something between here and the service may have written it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    #[serde(rename = "type")]
    page: String,
    title: String,
    detail: String,
    code: Option<Extensible<ProblemCode>>,
    request_id: Option<String>,
    errors: Vec<FieldError>,
}

impl Refusal {
    pub(crate) fn new(url: &str, status: u16, retry_after: Option<Duration>, body: &str) -> Self {
        let json = serde_json::from_str(body).ok().filter(Value::is_object);
        let json = json.unwrap_or_else(|| {
            let said: String = body.trim().chars().take(200).collect();
            json!({"title": format!("HTTP {status}, and no problem document"), "status": status, "detail": said})
        });
        Self {
            status,
            retry_after,
            problem: Box::new(Problem::deserialize(&json).unwrap_or_default()),
            json,
            url: url.to_owned(),
        }
    }

    fn code(&self) -> Option<ProblemCode> {
        self.problem.code.as_ref()?.known()
    }

    /// Whether the first request with this key is still being answered.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.code() == Some(ProblemCode::IdempotencyInFlight)
    }

    /// Whether the service does not know the model.
    pub(crate) fn concerns_the_model(&self) -> bool {
        self.code() == Some(ProblemCode::UnknownModel)
    }

    /// Whether there is no such path: the service is older than this command.
    pub(crate) fn is_unknown_path(&self) -> bool {
        self.status == 404 && self.problem.detail.contains("no such path")
    }

    /// Whether another image may be accepted.
    pub(crate) fn concerns_one_image(&self) -> bool {
        use ProblemCode as C;
        matches!(
            self.code(),
            // This program writes the request: what the service cannot read is the image, for example an empty one.
            Some(
                C::InvalidRequest
                    | C::UnsupportedMediaType
                    | C::ImageTooLarge
                    | C::ImageTooManyPixels
                    | C::ImageUndecodable
                    | C::ImageUrlBlocked
                    | C::ImageUrlFailed
            )
        )
    }

    /// Whether a parameter of the model is wrong.
    fn concerns_params(&self) -> bool {
        let mut errors = self.problem.errors.iter();
        errors.any(|error| error.pointer.starts_with("/params/"))
    }

    /// What to do; for other codes the page of the code says it.
    fn next_step(&self) -> Option<&'static str> {
        use ProblemCode as C;
        Some(match self.code()? {
            C::Unauthorized => {
                "set DARKROOM_API_KEY to a valid key; `darkroom keys create` makes one"
            }
            C::Forbidden => {
                "use a key with the scope that this needs; `darkroom keys create --scopes …` makes one"
            }
            C::NotFound if self.is_unknown_path() => {
                "this service does not have it yet: update the service, or look at its /docs"
            }
            C::NotFound => {
                "check the name or the id: a key sees jobs, batches and images of its own owner only"
            }
            C::UnknownModel => "`darkroom models list` shows the models",
            C::InvalidRequest => "check that the input is what this command takes, and not empty",
            C::InvalidParams if self.concerns_params() => {
                "correct the parameters named above; the model's manifest defines them"
            }
            C::InvalidParams => "correct the fields named above",
            C::UnsupportedMediaType => "convert the image to JPEG, PNG, WebP or GIF",
            C::ImageTooLarge | C::ImageTooManyPixels => "scale the image down and send it again",
            C::ImageUrlBlocked => "download the image and submit the file",
            C::ImageUndecodable => "check that the file is whole: an image viewer should open it",
            C::RateLimited | C::QuotaExceeded => "wait, then send less at a time (--concurrency)",
            C::QueueFull | C::ServiceUnavailable => {
                "try again in a while, or longer (--patience); the service did not accept this"
            }
            C::DataPurged => "the data cannot be restored; submit the image again",
            C::Internal => {
                "try again; if it fails again, give the request id to the operator of the service"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = &self.problem;
        match problem.title.as_str() {
            "" => write!(f, "HTTP {}", self.status)?,
            title => f.write_str(title)?,
        }
        match &problem.code {
            Some(code) => write!(f, " ({}, {})", code.as_str(), self.status)?,
            None => write!(f, " ({})", self.status)?,
        }
        if !problem.detail.is_empty() {
            write!(f, "\n  {}", problem.detail)?;
        }
        for error in &problem.errors {
            let line = format!("{}: {}", error.pointer, error.detail);
            // The detail of a problem with one mistake may be this mistake.
            if error.detail != problem.detail && line != problem.detail {
                write!(f, "\n  {line}")?;
            }
        }
        if let Some(request_id) = &problem.request_id {
            write!(f, "\n  request id {request_id}")?;
        }
        match (self.next_step(), &problem.page) {
            (Some(step), _) => write!(f, "\nnext: {step}"),
            (None, page) if page.starts_with('/') => write!(f, "\nnext: read {}{page}", self.url),
            _ => write!(
                f,
                "\nnext: check DARKROOM_URL: is it Darkroom that answers there?"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;
    use wire::{Problem, ProblemCode};

    #[test]
    fn a_refusal_says_what_why_where_and_what_next() {
        let problem = Problem::new(ProblemCode::InvalidParams, "model lite does not take these")
            .with_error("/params/top_k", "invalid", "must lie in 1..=1000");
        let refusal = Refusal::new("http://darkroom", 422, None, &problem.to_json().to_string());
        assert_eq!(
            refusal.to_string(),
            "A parameter is not acceptable (invalid_params, 422)\n  model lite does not take these\n  \
             /params/top_k: must lie in 1..=1000\n\
             next: correct the parameters named above; the model's manifest defines them"
        );
        assert!(!refusal.concerns_one_image());
    }

    #[test]
    fn a_mistake_that_is_the_detail_is_said_once() {
        for detail in ["/alias: is needed", "is needed"] {
            let problem = Problem::new(ProblemCode::InvalidParams, detail).with_error(
                "/alias",
                "needed",
                "is needed",
            );
            let refusal = Refusal::new("http://x", 422, None, &problem.to_json().to_string());
            let text = refusal.to_string();
            assert_eq!(text.matches("is needed").count(), 1, "{text}");
        }
    }

    #[test]
    fn a_code_that_is_newer_points_to_its_page() {
        let body =
            r#"{"type": "/problems/new_one", "title": "New", "code": "new_one", "status": 409}"#;
        let text = Refusal::new("http://darkroom", 409, None, body).to_string();
        assert_eq!(
            text,
            "New (new_one, 409)\nnext: read http://darkroom/problems/new_one"
        );
    }

    #[test]
    fn an_answer_of_a_proxy_is_quoted() {
        let text = Refusal::new("http://proxy", 502, None, "<html>Bad Gateway</html>").to_string();
        assert!(
            text.contains("502") && text.contains("Bad Gateway") && text.contains("DARKROOM_URL")
        );
    }
}
