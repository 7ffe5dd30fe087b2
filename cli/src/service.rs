//! The REST side: the address of the service, a client with safe retries, submits and refusals.

mod client;
mod refusal;
mod retry;
mod submission;
mod upload;

use std::time::Duration;

use clap::Args;
use jobs::Secret;

pub(crate) use self::{
    client::{Client, JobAnswer},
    refusal::Refusal,
    submission::{Content, Submission},
    upload::{UploadEnd, Uploader},
};

/// Where the service is and who is calling
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct Service {
    /// Address of the service
    #[arg(long, env = "DARKROOM_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// API key, `dk_…`; better set in the environment than on the command line, which other users can see
    #[arg(long, env = "DARKROOM_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<Secret>,
    /// How long to retry, with growing pauses, while the service is away or busy (`30s`, `5m`, `0s`: not at all)
    #[arg(long, env = "DARKROOM_PATIENCE", value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) patience: Duration,
}

impl Service {
    /// The part of the key that is no secret: `dk_ID`.
    pub(crate) fn key_id(&self) -> Option<String> {
        let key = self.api_key.as_ref()?.expose();
        Some(key.rsplit_once('_')?.0.to_owned())
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    Refused(Refusal),
    /// There is no answer, or one that cannot be read.
    Away {
        what: String,
        /// Whether the request may have reached the service.
        may_have_arrived: bool,
    },
    /// A local file cannot be read.
    Unreadable(String),
}

/// A path with its query.
pub(crate) fn path(path: &str, query: &[(String, String)]) -> String {
    let query = serde_urlencoded::to_string(query).unwrap_or_default();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// An id or a name as one part of a path.
pub(crate) fn path_part(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("want an id or a name: letters, digits, `_`, `-` and `.`")
    }
}
