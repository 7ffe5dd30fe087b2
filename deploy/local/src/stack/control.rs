//! How the supervisor is spoken to: one JSON line asked, JSON lines answered, the last one final.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::board::Row;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Up(Wish),
    Down,
    Status,
}

/// What should run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wish {
    pub(super) apis: u16,
    pub(super) workers: u16,
    /// Of `api-1`; the others follow.
    pub(super) port: u16,
    /// The caller's whole environment: what configures the services passes through it.
    pub(super) env: BTreeMap<String, String>,
    /// Folder of `darkroom-api` and the others.
    pub(super) bin: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// A line for the terminal; more follow.
    Say(String),
    Up(Ready),
    Status {
        supervisor: i32,
        rows: BTreeMap<String, Row>,
    },
    Failed(String),
}

/// What a user needs once everything runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) url: String,
    pub(super) api_key: String,
}

/// One end of a conversation.
pub(super) struct Wire {
    lines: Lines<BufReader<OwnedReadHalf>>,
    out: OwnedWriteHalf,
}

impl Wire {
    /// `None` when no supervisor listens.
    pub(super) async fn connect(socket: &Path) -> Option<Self> {
        UnixStream::connect(socket).await.ok().map(Self::over)
    }

    pub(super) fn over(stream: UnixStream) -> Self {
        let (input, out) = stream.into_split();
        Self {
            lines: BufReader::new(input).lines(),
            out,
        }
    }

    pub(super) async fn send(&mut self, message: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(message)? + "\n";
        self.out
            .write_all(line.as_bytes())
            .await
            .context("the other end went away")
    }

    /// `None` when the other end has gone.
    pub(super) async fn receive<T: for<'de> Deserialize<'de>>(&mut self) -> Option<T> {
        let line = self.lines.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }
}
