//! The REST side: where the service is, one client of it, its answers and its refusals.

mod client;
mod patience;
mod submission;

use std::time::Duration;

use clap::Args;
use jobs::Secret;
use serde_json::Value;

pub(crate) use self::{
    client::Client,
    submission::{Content, Submission},
};
pub(crate) use crate::plain::refusal::Refusal;

/// Where the service is and who is calling
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct Service {
    /// Address of the service
    #[arg(long, env = "DARKROOM_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// API key, `dk_…`; better given by the environment than on the command line, which other users can see
    #[arg(long, env = "DARKROOM_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<Secret>,
    /// How long to try again, with growing pauses, while the service is away or busy (`30s`, `5m`, `0s`: not at all)
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

#[derive(Debug)]
pub(crate) enum CallError {
    Refused(Refusal),
    /// No answer, or none that can be read.
    Away {
        what: String,
        /// Whether the request may have reached the service.
        heard: bool,
    },
    /// A local file cannot be read.
    Unreadable(String),
}

/// A job as the service showed it.
#[derive(Debug)]
pub(crate) struct JobAnswer {
    pub(crate) job: Value,
    pub(crate) etag: Option<String>,
    /// Whether the service held the answer back as it was asked to.
    pub(crate) waited: bool,
    pub(crate) retry_after: Option<Duration>,
}
