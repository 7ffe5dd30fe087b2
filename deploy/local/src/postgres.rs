//! A private Postgres cluster, apart from any Postgres of the machine and from port 5432.

mod binaries;
mod cluster;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use self::binaries::Binaries;
use self::cluster::{Cluster, ConnectionSettings};
use crate::account::Account;
use crate::ports;
use crate::process::{Process, Program};

/// Name of the superuser of the private cluster, and of its database.
pub(crate) const NAME: &str = "darkroom";

/// Attempts to start: after a crash, child processes of the earlier server may keep the cluster for a moment.
const ATTEMPTS: u32 = 5;

/// How to start a Postgres.
#[derive(Debug)]
pub struct PostgresOptions {
    /// Folder of the cluster, created if it is missing. For root it may be another folder: see
    /// [`Postgres::data`].
    pub data: PathBuf,
    pub log: PathBuf,
    /// Folder of the programs `postgres` and `initdb`. `None` means the programs that the setup installed.
    pub bin: Option<PathBuf>,
}

/// A running Postgres. A value that is dropped without [`Postgres::stop`] gets a fast shutdown.
#[derive(Debug)]
pub struct Postgres {
    pub process: Process,
    data: PathBuf,
    bin: PathBuf,
    settings: ConnectionSettings,
}

impl Postgres {
    /// Creates the cluster if it is missing, starts Postgres, and waits until Postgres accepts connections.
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        let account = Account::for_root()?;
        let binaries = Binaries::find(options.bin, account.as_ref())?;
        let cluster = Cluster::open(&options.data, &binaries, account).await?;
        let mut attempt = 1;
        loop {
            match Self::start_once(&binaries, &cluster, &options.log).await {
                Ok(running) => return Ok(running),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
            attempt += 1;
        }
    }

    async fn start_once(
        binaries: &Binaries,
        cluster: &Cluster,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let settings = cluster.with_free_port()?;
        let parameters = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", settings.port),
            "unix_socket_directories=".to_owned(), // the path of a socket can be too long; TCP is enough
            "max_connections=200".to_owned(), // several APIs and workers, each with a connection pool
            "shared_buffers=128MB".to_owned(),
            "logging_collector=off".to_owned(),
            "log_line_prefix=".to_owned(), // the log file has the time of each line
        ];
        let process = binaries
            .program("postgres")
            .arg("-D")
            .arg(&cluster.data)
            .args(parameters.iter().flat_map(|parameter| ["-c", parameter]))
            .run_as(cluster.account.as_ref())
            .with_death_signal(Signal::SIGINT) // a fast, clean shutdown
            .spawn(log)
            .context("starting Postgres")?;
        let running = Self {
            process,
            data: cluster.data.clone(),
            bin: binaries.bin.clone(),
            settings,
        };
        let address = format!("127.0.0.1:{}", running.port());
        let accepts_connections = || async { running.connect("postgres").await.is_ok() };
        running
            .process
            .wait_until(&address, Duration::from_mins(1), accepts_connections)
            .await?;
        running.create_database().await?;
        Ok(running)
    }

    /// URL of the database `darkroom`, with the superuser.
    pub fn url(&self) -> String {
        let ConnectionSettings { port, password } = &self.settings;
        format!("postgres://{NAME}:{password}@127.0.0.1:{port}/{NAME}")
    }

    pub fn port(&self) -> u16 {
        self.settings.port
    }

    /// Folder of the cluster.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Folder of the programs of this installation: `psql`, `pg_dump`, `pg_restore`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Shuts down fast: Postgres disconnects all clients and keeps all commits.
    pub async fn stop(&self) {
        self.process
            .stop(Signal::SIGINT, Duration::from_secs(30))
            .await;
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.settings.port)
            .username(NAME)
            .password(&self.settings.password)
            .database(database);
        PgConnection::connect_with(&options).await
    }

    async fn create_database(&self) -> anyhow::Result<()> {
        let mut db = self.connect("postgres").await?;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(NAME)
                .fetch_one(&mut db)
                .await?;
        if !exists {
            sqlx::query("create database darkroom")
                .execute(&mut db)
                .await?;
        }
        Ok(db.close().await?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.process.signal(Signal::SIGINT);
        // `Process` kills on drop. The shutdown checkpoint gets some time before that.
        self.process.block_until_ended(Duration::from_secs(5));
    }
}

impl Binaries {
    /// A program of this installation. It does not see the `PG…` variables of the caller.
    fn program(&self, name: &str) -> Program {
        Program::new(self.bin.join(name))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C")
    }

    /// Major version, as `PG_VERSION` of a cluster has it.
    fn major_version(&self) -> anyhow::Result<String> {
        let postgres = self.bin.join("postgres");
        let output = std::process::Command::new(&postgres)
            .arg("--version")
            .output();
        let output = output.with_context(|| format!("running {}", postgres.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = text
            .split(' ')
            .nth(2)
            .and_then(|version| version.trim().split('.').next());
        match number {
            Some(major) if major.parse::<u32>().is_ok() => Ok(major.to_owned()),
            _ => bail!("{} --version printed {text:?}", postgres.display()),
        }
    }
}

impl Cluster {
    /// The settings of the cluster. If another process has taken its port, the settings get another one.
    fn with_free_port(&self) -> anyhow::Result<ConnectionSettings> {
        let mut settings = self.read_settings()?;
        let port = ports::previous_or_free(Some(settings.port))?;
        if port != settings.port {
            settings.port = port;
            self.save_settings(&settings)?;
        }
        Ok(settings)
    }
}
