//! Postgres servers of one test's own: for what would disturb the other tests on the shared server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use jobs::{
    Secret,
    db::{self, Db, DbConfig},
};
use local::{Postgres, PostgresOptions};
use tempfile::TempDir;

use crate::proxy::{Protocol, Proxy};

/// Starts the server `name` in `folder`, with the data that an earlier server of this name left.
pub async fn start(folder: &Path, name: &str) -> Postgres {
    let postgres = Postgres::start(PostgresOptions {
        data: folder.join(name),
        log: folder.join(format!("{name}.log")),
        bin: None,
    });
    postgres.await.unwrap()
}

/// The configuration of a process for this URL.
pub fn config(url: &str) -> DbConfig {
    DbConfig {
        database_url: Secret::new(url),
        database_direct_url: None,
        database_password_file: None,
        db_connections_max: 6,
        db_acquire_timeout_ms: 5_000,
        db_statement_timeout_ms: 20_000,
        no_migrate: false,
    }
}

/// A pool for this URL, like that of another process.
pub fn connect(url: &str) -> Db {
    Db::connect(&config(url), "tests").unwrap()
}

/// Makes the schema in the database of this URL.
pub async fn migrate(url: &str) -> Db {
    let db = connect(url);
    db::migrate(&db, &config(url)).await.unwrap();
    db
}

/// A primary and a copy of it that takes no writes, behind one address. At first the address leads to the primary.
#[derive(Debug)]
pub struct Failover {
    pub primary: Postgres,
    pub standby: Postgres,
    pub proxy: Proxy,
    _folder: TempDir,
}

impl Failover {
    /// Starts both servers, with the schema and what `fill` writes.
    pub async fn start(fill: impl AsyncFnOnce(&Db)) -> Self {
        let folder = folder();
        let primary = start(folder.path(), "primary").await;
        let db = migrate(&primary.url()).await;
        fill(&db).await;
        db.close().await;
        // A copy of a cluster that runs would be none.
        let data = stop(primary).await;
        let copy = stop(start(folder.path(), "standby").await).await;
        make_standby(&data, &copy);
        let primary = start(folder.path(), "primary").await;
        let standby = start(folder.path(), "standby").await;
        let proxy = Proxy::start(Protocol::Postgres, primary.port()).await;
        Self {
            primary,
            standby,
            proxy,
            _folder: folder,
        }
    }

    /// The URL that leads to one of both.
    pub fn url(&self) -> String {
        let mut url = reqwest::Url::parse(&self.primary.url()).unwrap();
        url.set_port(Some(self.proxy.port())).unwrap();
        url.into()
    }

    /// The primary is gone: its connections end, and new ones lead to the standby.
    pub fn lose_primary(&self) {
        self.proxy.set_server(self.standby.port());
        self.proxy.cut();
    }

    /// New connections lead to the primary. Those to the standby stay open.
    pub fn find_primary(&self) {
        self.proxy.set_server(self.primary.port());
    }
}

/// An empty folder for servers.
pub fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("darkroom-servers-")
        .tempdir()
        .unwrap()
}

/// Stops the server and returns the folder of its cluster.
pub async fn stop(postgres: Postgres) -> PathBuf {
    postgres.stop().await;
    postgres.data().to_owned()
}

/// Replaces the cluster in `copy` by one with the data of `data` that starts as a standby.
fn make_standby(data: &Path, copy: &Path) {
    fs::remove_dir_all(copy).unwrap();
    // Keeps owner and mode: Postgres refuses other ones.
    run(Command::new("cp").arg("-a").args([data, copy]));
    let signal = copy.join("standby.signal");
    run(Command::new("cp")
        .arg("-a")
        .args([copy.join("PG_VERSION"), signal]));
}

/// Runs a program to its end.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
