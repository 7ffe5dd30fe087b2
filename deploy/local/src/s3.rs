//! An S3 server that keeps its objects in a folder, for one machine. It verifies checksums, and objects survive a power cut.

mod checksums;
mod download;
mod faults;
mod folder_sync;
mod listing;
mod object_file;
mod protocol;
mod quirks;
mod server;
mod storage;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

pub use self::server::{Credentials, serve};
use crate::ports;
use crate::process::{Process, Program};

/// How to start an S3 server.
#[derive(Debug)]
pub struct S3Options {
    /// Folder of the objects, created if it is missing.
    pub data: PathBuf,
    pub log: PathBuf,
    /// Port on 127.0.0.1; `None` means a free port.
    pub port: Option<u16>,
    pub credentials: Credentials,
    /// Path of `darkroom-local`, whose command `s3` is the server.
    pub program: PathBuf,
}

/// A running S3 server. Dropping it kills the server.
#[derive(Debug)]
pub struct S3 {
    pub process: Process,
    port: u16,
    credentials: Credentials,
}

/// The region of all clients of the local stack. The server accepts every region.
pub const REGION: &str = "us-east-1";

impl S3 {
    /// Starts the server and waits until it listens.
    pub async fn start(options: S3Options) -> anyhow::Result<Self> {
        let S3Options {
            data,
            log,
            port,
            credentials,
            program,
        } = options;
        let port = port.map_or_else(ports::free_port, Ok)?;
        let process = Program::new(program)
            .args(["s3", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .env("AWS_ACCESS_KEY_ID", &credentials.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &credentials.secret_key)
            .with_death_signal(Signal::SIGTERM)
            .spawn(&log)
            .context("starting the S3 server")?;
        process
            .wait_listening(port, Duration::from_secs(20))
            .await?;
        Ok(Self {
            process,
            port,
            credentials,
        })
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The environment variables that a client of this server needs.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_S3", self.endpoint()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", self.credentials.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.credentials.secret_key.clone()),
        ]
    }
}

impl Credentials {
    /// Creates a random key pair.
    pub fn generate() -> Self {
        Self {
            access_key: format!("AK{}", crate::secret::hex(9).to_uppercase()),
            secret_key: crate::secret::hex(20),
        }
    }
}
