//! A PgBouncer in transaction mode, in front of all databases of the server of `DATABASE_URL`.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use jobs::{Secret, db::DbConfig};
use local::{Process, Program};
use tempfile::TempDir;

use crate::Database;

/// A running PgBouncer. It is killed on drop.
#[derive(Debug)]
pub struct Pgbouncer {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Pgbouncer {
    /// Starts a PgBouncer with so many connections to Postgres for each database. None, with a message, if `tests/setup` could
    /// not install PgBouncer: then the test checks nothing.
    pub async fn start(connections: u32) -> Option<Self> {
        let program = program();
        if !program.is_file() {
            eprintln!("no PgBouncer (tests/setup says why): nothing was tested behind one");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("darkroom-pgbouncer-")
            .tempdir()
            .unwrap();
        let mut attempt = 1;
        loop {
            let port = local::free_port().unwrap();
            let config = folder.path().join("pgbouncer.ini");
            fs::write(&config, configuration(port, connections)).unwrap();
            let log = folder.path().join("pgbouncer.log");
            let process = Program::new(&program).arg(&config).spawn(&log).unwrap();
            let listening = process.wait_listening(port, Duration::from_mins(1)).await;
            match listening {
                Ok(()) => {
                    return Some(Self {
                        process,
                        port,
                        _folder: folder,
                    });
                }
                // Another process may have taken the port: tries again.
                Err(_) if attempt < 3 && !process.is_running() => attempt += 1,
                Err(error) => panic!("{error:#}"),
            }
        }
    }

    /// `DATABASE_URL` of a process behind PgBouncer.
    pub fn url(&self, db: &Database) -> String {
        let mut url = reqwest::Url::parse(db.url()).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.into()
    }

    /// Configuration of a process behind PgBouncer.
    pub fn config(&self, db: &Database) -> DbConfig {
        DbConfig {
            database_url: Secret::new(self.url(db)),
            database_direct_url: Some(Secret::new(db.url())),
            database_password_file: None,
            db_connections_max: 4,
            db_acquire_timeout_ms: 10_000,
            db_statement_timeout_ms: 20_000,
            no_migrate: false,
        }
    }

    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }
}

/// The program that `tests/setup` installs. The one of the machine may be too old for prepared statements.
fn program() -> PathBuf {
    let checkout = local::checkout().unwrap();
    checkout.join(".local/pgbouncer/pgbouncer")
}

/// The configuration of `docs/sql.md`, but without authentication.
fn configuration(port: u16, connections: u32) -> String {
    let server = reqwest::Url::parse(&crate::database::server()).unwrap();
    let host = server.host_str().unwrap();
    let server_port = server.port().unwrap_or(5432);
    let login = server.username();
    let password = server.password().unwrap_or_default();
    // PgBouncer does not run as root.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let user = if is_root { "user = nobody" } else { "" };
    format!(
        "[databases]
* = host={host} port={server_port} user={login} password={password}
[pgbouncer]
{user}
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_prepared_statements = 200
default_pool_size = {connections}
max_client_conn = 1000
"
    )
}
