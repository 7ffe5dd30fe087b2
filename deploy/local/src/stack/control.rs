//! The protocol of the supervisor: a client sends one JSON line and gets JSON lines back until the last one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::board::ProcessStatus;

/// What a client asks of the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Up(DesiredStack),
    Down,
    Status,
}

/// The processes that a client wants to run, and their configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DesiredStack {
    pub(super) apis: u16,
    pub(super) workers: u16,
    /// Port of `api-1`. `api-2` gets the next port, and so on.
    pub(super) port: u16,
    /// The whole environment of the client: its variables configure the services.
    pub(super) env: BTreeMap<String, String>,
    /// Folder of `darkroom-api` and the other programs.
    pub(super) bin: PathBuf,
}

/// One line that the supervisor sends to a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// Text for the terminal. Further replies follow; all other variants are the last reply.
    Say(String),
    Up(StackAccess),
    Status {
        supervisor: i32,
        rows: BTreeMap<String, ProcessStatus>,
    },
    /// `up` failed for this reason.
    Failed(String),
}

/// How a client reaches a stack that is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StackAccess {
    pub(super) url: String,
    pub(super) api_key: String,
}

/// One end of a connection between a client and the supervisor.
pub(super) struct Connection {
    lines: Lines<BufReader<OwnedReadHalf>>,
    out: OwnedWriteHalf,
}

impl Connection {
    /// `None` when no supervisor listens.
    pub(super) async fn connect(socket: &Path) -> Option<Self> {
        UnixStream::connect(socket).await.ok().map(Self::new)
    }

    pub(super) fn new(stream: UnixStream) -> Self {
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
            .context("the other end closed the connection")
    }

    /// The next message; `None` if the other end has closed the connection.
    pub(super) async fn receive<T: for<'de> Deserialize<'de>>(&mut self) -> Option<T> {
        let line = self.lines.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }
}
