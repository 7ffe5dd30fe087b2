//! A problem (RFC 9457) as a person reads it: what, why, where, and what to do next.

use std::{fmt, time::Duration};

use jobs::ProblemCode;
use serde_json::{Value, json};

use super::bare;

#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// When to come back, if it says so.
    pub(crate) retry_after: Option<Duration>,
    /// As the service wrote it; made up if something in between answered instead.
    pub(crate) problem: Value,
    url: String,
}

impl Refusal {
    pub(crate) fn new(url: &str, status: u16, retry_after: Option<Duration>, body: &str) -> Self {
        let problem = serde_json::from_str(body).ok().filter(Value::is_object);
        let problem = problem.unwrap_or_else(|| {
            let said: String = body.trim().chars().take(200).collect();
            json!({"title": format!("HTTP {status}, and no problem document"), "status": status, "detail": said})
        });
        Self {
            status,
            retry_after,
            problem,
            url: url.to_owned(),
        }
    }

    fn code(&self) -> Option<ProblemCode> {
        serde_json::from_value(self.problem["code"].clone()).ok()
    }

    /// Whether the first request with this key is still being answered.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.code() == Some(ProblemCode::IdempotencyInFlight)
    }

    pub(crate) fn is_of_a_model(&self) -> bool {
        self.code() == Some(ProblemCode::UnknownModel)
    }

    /// Whether there is no such path: a service that is older than this command.
    pub(crate) fn is_unknown_path(&self) -> bool {
        self.status == 404
            && self.problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("no such path"))
    }

    /// Whether the next image may fare better.
    pub(crate) fn concerns_one_image(&self) -> bool {
        use ProblemCode as C;
        matches!(
            self.code(),
            // The request itself is ours: what cannot be understood of it is the body, an empty one for example.
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

    /// Whether a parameter of the model is at fault.
    fn concerns_params(&self) -> bool {
        let errors = self.problem["errors"].as_array().into_iter().flatten();
        let mut pointers = errors.filter_map(|error| error["pointer"].as_str());
        pointers.any(|pointer| pointer.starts_with("/params/"))
    }

    /// What to do about it; for the rest the page of the code says.
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
            C::UnknownModel => "`darkroom models list` shows what there is",
            C::InvalidRequest => {
                "check that what was sent is what this command takes, and not empty"
            }
            C::InvalidParams if self.concerns_params() => {
                "correct the parameters named above; the model's manifest defines them"
            }
            C::InvalidParams => "correct what is named above",
            C::UnsupportedMediaType => "convert the image to JPEG, PNG, WebP or GIF",
            C::ImageTooLarge | C::ImageTooManyPixels => "scale the image down and send it again",
            C::ImageUrlBlocked => "download the image and submit the file",
            C::ImageUndecodable => "check that the file is whole: an image viewer should open it",
            C::RateLimited | C::QuotaExceeded => "wait, then send less at a time (--concurrency)",
            C::QueueFull | C::ServiceUnavailable => {
                "try again in a while, or longer (--patience); the service did not accept this"
            }
            C::DataPurged => "nothing brings it back; submit the image again",
            C::Internal => {
                "try again; if it stays, give the request id to whoever runs the service"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = &self.problem;
        write!(f, "{}", bare(&problem["title"]))?;
        match problem["code"].as_str() {
            Some(code) => write!(f, " ({code}, {})", self.status)?,
            None => write!(f, " ({})", self.status)?,
        }
        if let Some(detail) = problem["detail"].as_str().filter(|text| !text.is_empty()) {
            write!(f, "\n  {detail}")?;
        }
        for error in problem["errors"].as_array().into_iter().flatten() {
            if error["detail"] == problem["detail"] {
                continue; // said already
            }
            write!(
                f,
                "\n  {}: {}",
                bare(&error["pointer"]),
                bare(&error["detail"])
            )?;
        }
        if let Some(request_id) = problem["request_id"].as_str() {
            write!(f, "\n  request id {request_id}")?;
        }
        match (self.next_step(), problem["type"].as_str()) {
            (Some(step), _) => write!(f, "\nnext: {step}"),
            (None, Some(page)) if page.starts_with('/') => {
                write!(f, "\nnext: read {}{page}", self.url)
            }
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
    use jobs::{Problem, ProblemCode};

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
    fn a_code_of_tomorrow_points_to_its_page() {
        let body =
            r#"{"type": "/problems/new_one", "title": "New", "code": "new_one", "status": 409}"#;
        let text = Refusal::new("http://darkroom", 409, None, body).to_string();
        assert_eq!(
            text,
            "New (new_one, 409)\nnext: read http://darkroom/problems/new_one"
        );
    }

    #[test]
    fn an_answer_of_something_in_between_is_quoted() {
        let text = Refusal::new("http://proxy", 502, None, "<html>Bad Gateway</html>").to_string();
        assert!(
            text.contains("502") && text.contains("Bad Gateway") && text.contains("DARKROOM_URL")
        );
    }
}
