//! Owns all processes of the stack: starts missing ones, reports the end of each, and stops them in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};

use super::board::StatusBoard;
use super::control::{DesiredStack, StackAccess};
use super::env_file::{self, Env};
use super::layout::Layout;
use super::provision;
use super::saved_state::SavedState;
use super::services::{self, ANY_PORT, LISTEN_VARIABLES, Service};
use crate::process::Process;
use crate::{Credentials, Postgres, PostgresOptions, S3, S3Options, Signal, paths, ports, secret};

/// How long a process may take to end after SIGTERM: a worker finishes its jobs, an API its requests.
const WORKER_GRACE: Duration = Duration::from_secs(30);
const API_GRACE: Duration = Duration::from_secs(15);
const S3_GRACE: Duration = Duration::from_secs(5);

/// The processes of one stack.
pub(super) struct Supervisor {
    layout: Layout,
    board: Arc<StatusBoard>,
    saved: SavedState,
    postgres: Option<Postgres>,
    s3: Option<S3>,
    services: BTreeMap<String, Service>,
}

impl Supervisor {
    pub(super) fn new(layout: Layout, board: Arc<StatusBoard>) -> Self {
        Self {
            saved: SavedState::read(&layout),
            layout,
            board,
            postgres: None,
            s3: None,
            services: BTreeMap::new(),
        }
    }

    /// Starts the missing processes of `desired`. Running processes stay as they are.
    pub(super) async fn up(&mut self, desired: &DesiredStack) -> anyhow::Result<StackAccess> {
        let shared = self
            .start_stores(desired)
            .await
            .context("starting Postgres and S3")?;
        let url = format!("http://127.0.0.1:{}", desired.port);
        self.write_env(&shared, &url)?; // if the rest fails, a user can still connect to the database

        self.start_api(desired, &shared, 1)
            .await
            .context("starting api-1")?;
        self.operator_login(&shared).await;
        let api_key = self
            .api_key(desired, &shared, &url)
            .await
            .context("creating an API key")?;
        self.saved.write(&self.layout)?;
        self.write_env(&shared, &url)?;
        let models = provision::push_models(&self.layout, desired, &shared).await;
        let models = models.context("registering the models that ship")?;
        self.board.report(
            "INFO",
            "models",
            &format!("registered: {}", models.join(", ")),
        );

        for number in 2..=desired.apis {
            self.start_api(desired, &shared, number)
                .await
                .with_context(|| format!("starting api-{number}"))?;
        }
        self.start_workers(desired, &shared).await?;
        self.board
            .report("INFO", "stack", &format!("ready at {url}"));
        Ok(StackAccess { url, api_key })
    }

    /// Starts Postgres and S3, except for those that the client has. Returns the environment that services need to reach both.
    async fn start_stores(&mut self, desired: &DesiredStack) -> anyhow::Result<Env> {
        let external = |name: &str, own: &Option<String>| {
            let given = desired.env.get(name).filter(|given| !given.is_empty());
            given.filter(|given| own.as_ref() != Some(given)).cloned()
        };
        let database = external("DATABASE_URL", &self.saved.own_database_url);
        let endpoint = external("AWS_ENDPOINT_URL_S3", &self.saved.own_s3_endpoint);
        if database.is_none() {
            self.start_postgres().await?;
        }
        if endpoint.is_none() {
            self.start_s3(desired).await?;
        }
        self.saved.write(&self.layout)?;

        // Only an external database can be behind a pooler.
        let direct = desired.env.get("DATABASE_DIRECT_URL").cloned();
        let direct = direct.filter(|direct| database.is_some() && !direct.is_empty());
        let database_url = database.or_else(|| self.saved.own_database_url.clone());
        let bucket = desired.env.get("DARKROOM_S3_BUCKET").cloned();
        let mut env: Env = vec![
            (
                "DATABASE_URL",
                database_url.context("no database: neither the stack's own nor an external one")?,
            ),
            (
                "DARKROOM_S3_BUCKET",
                bucket.unwrap_or_else(|| "darkroom".into()),
            ),
        ];
        env.extend(direct.map(|direct| ("DATABASE_DIRECT_URL", direct)));
        match endpoint {
            None => env.extend(self.s3.iter().flat_map(S3::env)),
            Some(endpoint) => {
                env.push(("AWS_ENDPOINT_URL_S3", endpoint));
                for name in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
                    env.extend(desired.env.get(name).map(|value| (name, value.clone())));
                }
            }
        }
        env.extend(paths::ld_library_path().map(|path| ("LD_LIBRARY_PATH", path)));
        Ok(env)
    }

    async fn start_postgres(&mut self) -> anyhow::Result<()> {
        if self
            .postgres
            .as_ref()
            .is_some_and(|postgres| postgres.process.is_running())
        {
            return Ok(());
        }
        self.board.report("INFO", "postgres", "starting");
        self.postgres = None;
        let started = Postgres::start(PostgresOptions {
            data: self.layout.postgres(),
            log: self.layout.log("postgres"),
            bin: None,
        });
        let postgres = started.await?;
        self.saved.own_database_url = Some(postgres.url());
        self.saved.postgres_data = Some(postgres.data().to_owned());
        let location = format!(
            "127.0.0.1:{} (data {})",
            postgres.port(),
            postgres.data().display()
        );
        self.watch("postgres", &postgres.process, &location);
        self.postgres = Some(postgres);
        Ok(())
    }

    async fn start_s3(&mut self, desired: &DesiredStack) -> anyhow::Result<()> {
        if self.s3.as_ref().is_some_and(|s3| s3.process.is_running()) {
            return Ok(());
        }
        self.board.report("INFO", "s3", "starting");
        let saved = &mut self.saved;
        let fresh = Credentials::generate();
        let credentials = Credentials {
            access_key: saved.access_key.get_or_insert(fresh.access_key).clone(),
            secret_key: saved.secret_key.get_or_insert(fresh.secret_key).clone(),
        };
        let started = S3::start(S3Options {
            data: self.layout.objects(),
            log: self.layout.log("s3"),
            port: Some(ports::previous_or_free(saved.s3_port)?),
            credentials,
            program: desired.bin.join("darkroom-local"),
        });
        let s3 = started.await?;
        saved.s3_port = Some(s3.port());
        saved.own_s3_endpoint = Some(s3.endpoint());
        let location = format!(
            "{} (data {})",
            s3.endpoint(),
            self.layout.objects().display()
        );
        self.watch("s3", &s3.process, &location);
        self.s3 = Some(s3);
        Ok(())
    }

    async fn start_api(
        &mut self,
        desired: &DesiredStack,
        shared: &Env,
        number: u16,
    ) -> anyhow::Result<()> {
        let name = format!("api-{number}");
        if !self.is_running(&name) {
            self.board.report("INFO", &name, "starting");
            let service = services::start_api(&self.layout, desired, shared, number).await?;
            self.await_ready(name, service).await?;
        }
        Ok(())
    }

    /// Starts all missing workers at once, because each needs seconds to load libtorch.
    async fn start_workers(&mut self, desired: &DesiredStack, shared: &Env) -> anyhow::Result<()> {
        let mut starting = Vec::new();
        for number in 1..=desired.workers {
            let name = format!("worker-{number}");
            if !self.is_running(&name) {
                self.board.report("INFO", &name, "starting");
                starting.push((
                    name,
                    services::start_worker(&self.layout, desired, shared, number)?,
                ));
            }
        }
        try_join_all(starting.iter().map(|(name, service)| async move {
            service
                .wait_ready()
                .await
                .with_context(|| format!("starting {name}"))
        }))
        .await?;
        for (name, service) in starting {
            self.watch(&name, &service.process, &service.location);
            self.services.insert(name, service);
        }
        Ok(())
    }

    async fn await_ready(&mut self, name: String, service: Service) -> anyhow::Result<()> {
        service.wait_ready().await?;
        self.watch(&name, &service.process, &service.location);
        self.services.insert(name, service);
        Ok(())
    }

    fn is_running(&self, name: &str) -> bool {
        self.services
            .get(name)
            .is_some_and(|service| service.process.is_running())
    }

    /// Adds a ready process to the status board. When the process ends, a task reports that and removes it.
    fn watch(&self, name: &str, process: &Process, location: &str) {
        let pid = process.pid();
        self.board.started(name, pid, location);
        self.board
            .report("INFO", name, &format!("ready: pid {pid}, {location}"));
        let (board, name, exit_status) = (
            Arc::clone(&self.board),
            name.to_owned(),
            process.exit_status(),
        );
        tokio::spawn(async move {
            let status = exit_status.await;
            board.ended(&name, pid);
            let level = if status.success() { "INFO" } else { "ERROR" };
            board.report(level, &name, &format!("ended: pid {pid}, {status}"));
        });
    }

    async fn api_key(
        &mut self,
        desired: &DesiredStack,
        shared: &Env,
        url: &str,
    ) -> anyhow::Result<String> {
        if let Some(key) = &self.saved.api_key
            && provision::key_works(url, key).await
        {
            return Ok(key.clone());
        }
        let key = provision::create_key(&self.layout, desired, shared).await?;
        self.saved.api_key = Some(key.clone());
        Ok(key)
    }

    /// Creates the read-only login. On an external database this may be forbidden: then there is a warning and no login.
    async fn operator_login(&mut self, shared: &Env) {
        let database_url = match value(shared, "DATABASE_DIRECT_URL") {
            "" => value(shared, "DATABASE_URL"),
            direct => direct,
        };
        let password = self
            .saved
            .ops_password
            .get_or_insert_with(|| secret::hex(16));
        self.saved.ops_url = match provision::operator_login(database_url, password).await {
            Ok(ops_url) => Some(ops_url),
            Err(error) => {
                self.board.report(
                    "WARN",
                    "operator",
                    &format!("no read-only login: {error:#}"),
                );
                None
            }
        };
    }

    fn write_env(&self, shared: &Env, url: &str) -> anyhow::Result<()> {
        let mut env: Env = vec![("DARKROOM_URL", url.to_owned())];
        let SavedState {
            api_key, ops_url, ..
        } = &self.saved;
        env.extend(api_key.clone().map(|api_key| ("DARKROOM_API_KEY", api_key)));
        env.extend(ops_url.clone().map(|ops_url| ("DARKROOM_OPS_URL", ops_url)));
        env.extend(shared.iter().cloned());
        env.extend(LISTEN_VARIABLES.map(|variable| (variable, ANY_PORT.to_owned())));
        env_file::write(&self.layout, &env)
    }

    /// Stops all processes, each before the processes that it uses.
    pub(super) async fn stop(&mut self) {
        for (kind, grace) in [("worker-", WORKER_GRACE), ("api-", API_GRACE)] {
            let of_kind = self
                .services
                .iter()
                .filter(|(name, _)| name.starts_with(kind));
            join_all(of_kind.map(|(_, service)| service.process.stop(Signal::SIGTERM, grace)))
                .await;
        }
        if let Some(s3) = &self.s3 {
            s3.process.stop(Signal::SIGTERM, S3_GRACE).await;
        }
        if let Some(postgres) = &self.postgres {
            postgres.stop().await;
        }
        // Tasks report the end of each process. Wait until all have done so.
        while !self.board.processes().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn value<'a>(env: &'a Env, wanted: &str) -> &'a str {
    env.iter()
        .find(|(name, _)| *name == wanted)
        .map_or("", |(_, value)| value)
}
