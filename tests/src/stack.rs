//! The real programs with a database and a bucket for one test.

use std::{
    collections::BTreeMap,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use jobs::{
    keys::{self, KeyLimits, NewKey, Scope},
    models::{self, ModelFolder},
    object_store::ObjectStore,
};
use local::{Process, Program};
use tempfile::TempDir;

use crate::{Client, Database, fixtures, given};

/// A database, a bucket, one API process with a client of it, and as many workers as the test starts.
#[derive(Debug)]
pub struct Stack {
    // Fields drop in this order: processes before the database and the bucket that they use.
    pub api: Running,
    pub client: Client,
    pub store: ObjectStore,
    bucket: String,
    folder: TempDir,
    pub db: Database,
}

/// A running process. If the test fails, the end of its log is printed.
#[derive(Debug)]
pub struct Running {
    process: Process,
    /// `http://127.0.0.1:PORT` of the API, or of the health checks of a worker.
    pub url: String,
    metrics_url: String,
    name: String,
}

const API_LISTENERS: [&str; 2] = ["DARKROOM_LISTEN", "DARKROOM_METRICS_LISTEN"];
const WORKER_LISTENERS: [&str; 1] = ["DARKROOM_HEALTH_LISTEN"];

type Env<'a> = &'a [(&'a str, &'a str)];

impl Stack {
    /// A stack without models.
    pub async fn bare(env: Env<'_>) -> Self {
        Self::over(given::database().await, env).await
    }

    /// A stack without models, with this database. `env` may name the database.
    pub async fn over(db: Database, env: Env<'_>) -> Self {
        let (bucket, store) = given::bucket().await;
        let folder = tempfile::Builder::new()
            .prefix("darkroom-test-")
            .tempdir()
            .unwrap();
        let api = start_api(&db, &bucket, folder.path(), env).await;
        let client = Client::new(&api.url, Some(key(&db, given::OWNER, &Scope::ALL).await));
        Self {
            api,
            client,
            store,
            bucket,
            folder,
            db,
        }
    }

    /// A stack with the two models in the registry, but without their files. Jobs can be submitted, but not run.
    pub async fn without_workers() -> Self {
        Self::without_workers_but(&[]).await
    }

    pub async fn without_workers_but(env: Env<'_>) -> Self {
        let stack = Self::bare(env).await;
        for model in [fixtures::CLASSIFIER, fixtures::EMBEDDER] {
            let manifest = std::fs::read(fixtures::model(model).join("model.json")).unwrap();
            given::registered(&stack.db, serde_json::from_slice(&manifest).unwrap()).await;
        }
        stack
    }

    /// A stack with the two models and their files. Workers can run them.
    pub async fn with_models() -> Self {
        let stack = Self::bare(&[]).await;
        stack.push_models().await;
        stack
    }

    pub async fn push_models(&self) {
        for model in [fixtures::CLASSIFIER, fixtures::EMBEDDER] {
            let folder = ModelFolder::read(&fixtures::model(model)).unwrap();
            models::push(&self.db, &self.store, &folder, None, false)
                .await
                .unwrap();
        }
    }

    /// Pushes another model, from a folder of `tests/fixtures`.
    pub async fn push(&self, fixture: &str) {
        let folder = ModelFolder::read(&fixtures::folder().join(fixture)).unwrap();
        let pushed = models::push(&self.db, &self.store, &folder, None, false).await;
        pushed.unwrap();
    }

    /// The name of its bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The folder where the workers keep files of models.
    pub fn model_cache(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// Starts a worker and waits until it is ready. An empty value in `env` removes the variable, here and below.
    pub async fn worker(&self, name: &str, env: Env<'_>) -> Running {
        let (program, log, env) = self.worker_program(name, env);
        start(&program, name, &log, &WORKER_LISTENERS, &env).await
    }

    /// Starts a worker without waiting: it may end before it is ready.
    pub fn spawn_worker(&self, name: &str, env: Env<'_>) -> Running {
        let (program, log, env) = self.worker_program(name, env);
        launch(&program, name, &log, &WORKER_LISTENERS, &env)
    }

    fn worker_program(
        &self,
        name: &str,
        env: Env<'_>,
    ) -> (PathBuf, PathBuf, BTreeMap<String, String>) {
        let mut all = vec![
            ("DARKROOM_WORKER_NAME", name),
            ("DARKROOM_DEVICE", "cpu"),
            // Does not ask the metadata service of the machine that runs the tests.
            ("DARKROOM_PREEMPTION", "none"),
        ];
        all.extend(env);
        let libraries = local::ld_library_path();
        all.extend(libraries.as_deref().map(|path| ("LD_LIBRARY_PATH", path)));
        let cache = self.model_cache();
        all.push(("DARKROOM_MODEL_CACHE_DIR", cache.to_str().unwrap()));
        let program = local::bin_dir().unwrap().join("darkroom-worker");
        let log = self.folder.path().join(format!("{name}.log"));
        (program, log, self.env(&all))
    }

    /// Kills the API and starts another one, on another port.
    pub async fn replace_killed_api(&mut self) {
        self.replace_killed_api_with(&[]).await;
    }

    /// Kills the API and starts another one with these settings.
    pub async fn replace_killed_api_with(&mut self, env: Env<'_>) {
        self.api.process.kill().await;
        let fresh = start_api(&self.db, &self.bucket, self.folder.path(), env).await;
        let key = key(&self.db, given::OWNER, &Scope::ALL).await;
        self.client = Client::new(&fresh.url, Some(key));
        self.api = fresh;
    }

    /// Starts a second API process with the database and the bucket of this stack.
    pub async fn another_api(&self, env: Env<'_>) -> Running {
        start_api(&self.db, &self.bucket, self.folder.path(), env).await
    }

    /// Starts a second API process without waiting: it may never be ready.
    pub fn spawn_api(&self, env: Env<'_>) -> Running {
        let (program, log) = (
            local::bin_dir().unwrap().join("darkroom-api"),
            self.folder.path().join("api-2.log"),
        );
        launch(&program, "api-2", &log, &API_LISTENERS, &self.env(env))
    }

    /// A client with a new key.
    pub async fn client_of(&self, owner: &str, scopes: &[Scope]) -> Client {
        let key = key(&self.db, owner, scopes).await;
        Client::new(&self.api.url, Some(key))
    }

    pub fn client_with(&self, key: Option<&str>) -> Client {
        Client::new(&self.api.url, key.map(Into::into))
    }

    /// A new key of the owner with all scopes.
    pub async fn key(&self) -> String {
        key(&self.db, given::OWNER, &Scope::ALL).await
    }

    /// Runs the command `darkroom` with a key of the owner.
    pub async fn command(&self, args: &[&str]) -> std::process::Output {
        let mut command = self.command_line(&self.key().await);
        let run = tokio::time::timeout(Duration::from_secs(90), command.args(args).output());
        run.await.expect("the command took more than 90 s").unwrap()
    }

    /// The command `darkroom`, without arguments.
    pub fn command_line(&self, key: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(local::bin_dir().unwrap().join("darkroom"));
        for name in inherited_settings() {
            command.env_remove(name);
        }
        command
            .env("DARKROOM_URL", &self.api.url)
            .env("DARKROOM_API_KEY", key)
            .env("XDG_STATE_HOME", self.folder.path())
            .envs(self.env(&[]))
            .kill_on_drop(true);
        command
    }

    fn env(&self, more: Env<'_>) -> BTreeMap<String, String> {
        env(&self.db, &self.bucket, more)
    }
}

impl Running {
    /// The metrics, in the text format of Prometheus.
    pub async fn metrics(&self) -> String {
        let own = Client::new(&self.metrics_url, None);
        own.get("/metrics").await.text()
    }

    /// The address of `/livez`, `/readyz` and `/metrics`.
    pub fn metrics_url(&self) -> &str {
        &self.metrics_url
    }

    /// How many descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.pid());
        std::fs::read_dir(folder).unwrap().count()
    }

    /// Peak of the resident memory, in MiB.
    pub fn memory_peak_mib(&self) -> u64 {
        self.status_kib("VmHWM:") / 1024
    }

    /// Resident memory now, in MiB.
    pub fn memory_mib(&self) -> f64 {
        self.status_kib("VmRSS:") as f64 / 1024.0
    }

    fn status_kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse().unwrap()
    }
}

impl Deref for Running {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.process.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!(
                "--- the end of the log of {}:\n{}",
                self.name,
                last.join("\n")
            );
        }
    }
}

async fn key(db: &Database, owner: &str, scopes: &[Scope]) -> String {
    let new = NewKey {
        name: "test".into(),
        owner: owner.into(),
        scopes: scopes.to_vec(),
        expires_at: None,
        // Tests set priorities of jobs; the limit of a key has tests of its own.
        limits: KeyLimits {
            priority_max: Some(100),
            ..KeyLimits::default()
        },
    };
    keys::create(db, &new, None)
        .await
        .unwrap()
        .key
        .expose()
        .into()
}

fn env(db: &Database, bucket: &str, more: Env<'_>) -> BTreeMap<String, String> {
    let own = [("DATABASE_URL", db.url()), ("DARKROOM_S3_BUCKET", bucket)];
    let all = own.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Darkroom settings in the environment of the test run. Programs under test must not inherit them.
fn inherited_settings() -> impl Iterator<Item = std::ffi::OsString> {
    let ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("DARKROOM_");
    std::env::vars_os().map(|(name, _)| name).filter(ours)
}

async fn start_api(db: &Database, bucket: &str, folder: &Path, more: Env<'_>) -> Running {
    let program = local::bin_dir().unwrap().join("darkroom-api");
    let mut all = vec![("DARKROOM_S3_CREATE_BUCKET", "true")];
    all.extend(more);
    let env = env(db, bucket, &all);
    start(
        &program,
        "api",
        &folder.join("api.log"),
        &API_LISTENERS,
        &env,
    )
    .await
}

/// Starts a program and waits until `/readyz` at the first of its listeners is ready. `listeners` are variables of addresses.
async fn start(
    program: &Path,
    name: &str,
    log: &Path,
    listeners: &[&str],
    env: &BTreeMap<String, String>,
) -> Running {
    let mut attempt = 1;
    loop {
        let running = launch(program, name, log, listeners, env);
        let ready = running
            .wait_ready(&format!("{}/readyz", running.url), Duration::from_mins(1))
            .await;
        match ready {
            // Another process may have taken the port, and may even answer there: tries again.
            _ if attempt < 3 && !running.is_running() => attempt += 1,
            Ok(()) => return running,
            Err(error) => panic!("{error:#}"),
        }
    }
}

fn launch(
    program: &Path,
    name: &str,
    log: &Path,
    listeners: &[&str],
    env: &BTreeMap<String, String>,
) -> Running {
    let ports: Vec<_> = listeners
        .iter()
        .map(|_| local::free_port().unwrap())
        .collect();
    let listen = listeners
        .iter()
        .zip(&ports)
        .map(|(name, port)| (*name, format!("127.0.0.1:{port}")));
    let mut program = Program::new(program);
    for name in inherited_settings() {
        program = program.env_remove(name);
    }
    // An empty value removes a variable that the test run has.
    let (removed, set): (Vec<_>, Vec<_>) = env.iter().partition(|(_, value)| value.is_empty());
    for (name, _) in removed {
        program = program.env_remove(name);
    }
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    Running {
        process: program.envs(listen).envs(set).spawn(log).unwrap(),
        url: url(ports[0]),
        metrics_url: url(ports[ports.len() - 1]),
        name: name.to_owned(),
    }
}
