//! A private Postgres cluster: never the machine's own, never port 5432.

mod binaries;
mod cluster;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use self::binaries::Binaries;
use self::cluster::{Cluster, Remembered};
use crate::account::Account;
use crate::ports;
use crate::process::{Process, Program};

/// The superuser of the private cluster, and its database.
pub(crate) const NAME: &str = "darkroom";

/// A crashed predecessor's children may hold the cluster for a moment.
const ATTEMPTS: u32 = 5;

/// How to start a Postgres.
#[derive(Debug)]
pub struct PostgresOptions {
    /// Where the cluster is; made when missing. As root it may end up elsewhere: see
    /// [`Postgres::data`].
    pub data: PathBuf,
    pub log: PathBuf,
    /// Folder of `postgres` and `initdb`; those that the setup brought when none.
    pub bin: Option<PathBuf>,
}

/// A running Postgres, told to shut down fast when dropped without [`Postgres::stop`].
#[derive(Debug)]
pub struct Postgres {
    pub process: Process,
    data: PathBuf,
    remembered: Remembered,
}

impl Postgres {
    /// Makes the cluster if need be, starts it and waits until it answers.
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        let account = Account::unless_ordinary()?;
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
        let remembered = cluster.with_free_port()?;
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", remembered.port),
            "unix_socket_directories=".to_owned(), // its path might be too long, and TCP is enough
            "max_connections=200".to_owned(),      // several APIs and workers, each with a pool
            "shared_buffers=128MB".to_owned(),
            "logging_collector=off".to_owned(),
            "log_line_prefix=".to_owned(), // our log adds the time
        ];
        let process = binaries
            .program("postgres")
            .arg("-D")
            .arg(&cluster.data)
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .run_as(cluster.account.as_ref())
            .dies_with_us_by(Signal::SIGINT) // a fast, clean shutdown
            .spawn(log)
            .context("starting Postgres")?;
        let running = Self {
            process,
            data: cluster.data.clone(),
            remembered,
        };
        let place = format!("127.0.0.1:{}", running.port());
        let answers = || async { running.connect("postgres").await.is_ok() };
        running
            .process
            .wait_until(&place, Duration::from_mins(1), answers)
            .await?;
        running.create_database().await?;
        Ok(running)
    }

    /// URL of the superuser and its database.
    pub fn url(&self) -> String {
        let Remembered { port, password } = &self.remembered;
        format!("postgres://{NAME}:{password}@127.0.0.1:{port}/{NAME}")
    }

    pub fn port(&self) -> u16 {
        self.remembered.port
    }

    /// Where the cluster really is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Shuts down fast: no waiting for clients, all committed is kept.
    pub async fn stop(&self) {
        self.process
            .stop(Signal::SIGINT, Duration::from_secs(30))
            .await;
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.remembered.port)
            .username(NAME)
            .password(&self.remembered.password)
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
        // Its own drop kills: give the shutdown checkpoint its moment first.
        self.process.block_until_ended(Duration::from_secs(5));
    }
}

impl Binaries {
    /// A program of this installation, out of reach of the caller's `PG…` variables.
    fn program(&self, name: &str) -> Program {
        Program::new(self.bin.join(name))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C")
    }

    /// Major version, as in a cluster's `PG_VERSION`.
    fn major_version(&self) -> anyhow::Result<String> {
        let postgres = self.bin.join("postgres");
        let asked = std::process::Command::new(&postgres)
            .arg("--version")
            .output();
        let asked = asked.with_context(|| format!("running {}", postgres.display()))?;
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        let number = text
            .split(' ')
            .nth(2)
            .and_then(|version| version.trim().split('.').next());
        match number {
            Some(major) if major.parse::<u32>().is_ok() => Ok(major.to_owned()),
            _ => bail!("{} --version says {text:?}", postgres.display()),
        }
    }
}

impl Cluster {
    /// What the cluster remembers, with another port if its own was taken meanwhile.
    fn with_free_port(&self) -> anyhow::Result<Remembered> {
        let mut remembered = self.remembered()?;
        let port = ports::again_or_free(Some(remembered.port))?;
        if port != remembered.port {
            remembered.port = port;
            self.remember(&remembered)?;
        }
        Ok(remembered)
    }
}
