//! Owns all processes of the stack: starts what is missing, reports what dies, stops in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};

use super::board::Board;
use super::control::{Ready, Wish};
use super::env_file::{self, Env};
use super::layout::Layout;
use super::memory::Memory;
use super::provision;
use super::services::{self, ANY_PORT, FURTHER, Service};
use crate::process::Process;
use crate::{Credentials, Postgres, PostgresOptions, S3, S3Options, Signal, places, ports, secret};

/// A worker finishes what it has; an API answers what it was asked.
const WORKER_GRACE: Duration = Duration::from_secs(30);
const API_GRACE: Duration = Duration::from_secs(15);
const S3_GRACE: Duration = Duration::from_secs(5);

pub(super) struct Supervisor {
    layout: Layout,
    board: Arc<Board>,
    memory: Memory,
    postgres: Option<Postgres>,
    s3: Option<S3>,
    services: BTreeMap<String, Service>,
}

impl Supervisor {
    pub(super) fn new(layout: Layout, board: Arc<Board>) -> Self {
        Self {
            memory: Memory::read(&layout),
            layout,
            board,
            postgres: None,
            s3: None,
            services: BTreeMap::new(),
        }
    }

    /// Starts what is missing; what runs is left alone.
    pub(super) async fn up(&mut self, wish: &Wish) -> anyhow::Result<Ready> {
        let shared = self.stores(wish).await.context("starting the stores")?;
        let url = format!("http://127.0.0.1:{}", wish.port);
        self.write_env(&shared, &url)?; // a first start that fails is easier to look into

        self.api(wish, &shared, 1).await.context("starting api-1")?;
        self.operator_login(&shared).await;
        let api_key = self
            .api_key(wish, &shared, &url)
            .await
            .context("making an API key")?;
        self.memory.write(&self.layout)?;
        self.write_env(&shared, &url)?;
        let models = provision::push_models(&self.layout, wish, &shared).await;
        let models = models.context("registering the models that ship")?;
        self.board.say(
            "INFO",
            "models",
            &format!("registered: {}", models.join(", ")),
        );

        for number in 2..=wish.apis {
            self.api(wish, &shared, number)
                .await
                .with_context(|| format!("starting api-{number}"))?;
        }
        self.workers(wish, &shared).await?;
        self.board.say("INFO", "stack", &format!("ready at {url}"));
        Ok(Ready { url, api_key })
    }

    /// Postgres and S3, ours or the caller's; the environment that leads to them.
    async fn stores(&mut self, wish: &Wish) -> anyhow::Result<Env> {
        let foreign = |name: &str, own: &Option<String>| {
            let given = wish.env.get(name).filter(|given| !given.is_empty());
            given.filter(|given| own.as_ref() != Some(given)).cloned()
        };
        let database = foreign("DATABASE_URL", &self.memory.own_database_url);
        let endpoint = foreign("AWS_ENDPOINT_URL_S3", &self.memory.own_s3_endpoint);
        if database.is_none() {
            self.own_postgres().await?;
        }
        if endpoint.is_none() {
            self.own_s3(wish).await?;
        }
        self.memory.write(&self.layout)?;

        // Only a foreign one may be behind a pooler.
        let direct = wish.env.get("DATABASE_DIRECT_URL").cloned();
        let direct = direct.filter(|direct| database.is_some() && !direct.is_empty());
        let database_url = database.or_else(|| self.memory.own_database_url.clone());
        let bucket = wish.env.get("DARKROOM_S3_BUCKET").cloned();
        let mut env: Env = vec![
            (
                "DATABASE_URL",
                database_url.context("neither an own nor a foreign database")?,
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
                    env.extend(wish.env.get(name).map(|value| (name, value.clone())));
                }
            }
        }
        env.extend(places::ld_library_path().map(|path| ("LD_LIBRARY_PATH", path)));
        Ok(env)
    }

    async fn own_postgres(&mut self) -> anyhow::Result<()> {
        if self
            .postgres
            .as_ref()
            .is_some_and(|postgres| postgres.process.is_running())
        {
            return Ok(());
        }
        self.board.say("INFO", "postgres", "starting");
        self.postgres = None;
        let started = Postgres::start(PostgresOptions {
            data: self.layout.postgres(),
            log: self.layout.log("postgres"),
            bin: None,
        });
        let postgres = started.await?;
        self.memory.own_database_url = Some(postgres.url());
        self.memory.postgres_data = Some(postgres.data().to_owned());
        let place = format!(
            "127.0.0.1:{} (data {})",
            postgres.port(),
            postgres.data().display()
        );
        self.watch("postgres", &postgres.process, &place);
        self.postgres = Some(postgres);
        Ok(())
    }

    async fn own_s3(&mut self, wish: &Wish) -> anyhow::Result<()> {
        if self.s3.as_ref().is_some_and(|s3| s3.process.is_running()) {
            return Ok(());
        }
        self.board.say("INFO", "s3", "starting");
        let memory = &mut self.memory;
        let fresh = Credentials::generate();
        let credentials = Credentials {
            access_key: memory.access_key.get_or_insert(fresh.access_key).clone(),
            secret_key: memory.secret_key.get_or_insert(fresh.secret_key).clone(),
        };
        let started = S3::start(S3Options {
            data: self.layout.objects(),
            log: self.layout.log("s3"),
            port: Some(ports::again_or_free(memory.s3_port)?),
            credentials,
            program: wish.bin.join("darkroom-local"),
        });
        let s3 = started.await?;
        memory.s3_port = Some(s3.port());
        memory.own_s3_endpoint = Some(s3.endpoint());
        let place = format!(
            "{} (data {})",
            s3.endpoint(),
            self.layout.objects().display()
        );
        self.watch("s3", &s3.process, &place);
        self.s3 = Some(s3);
        Ok(())
    }

    async fn api(&mut self, wish: &Wish, shared: &Env, number: u16) -> anyhow::Result<()> {
        let name = format!("api-{number}");
        if !self.is_running(&name) {
            self.board.say("INFO", &name, "starting");
            let service = services::start_api(&self.layout, wish, shared, number).await?;
            self.await_ready(name, service).await?;
        }
        Ok(())
    }

    /// Starts all missing workers at once: each loads libtorch, which takes its time.
    async fn workers(&mut self, wish: &Wish, shared: &Env) -> anyhow::Result<()> {
        let mut starting = Vec::new();
        for number in 1..=wish.workers {
            let name = format!("worker-{number}");
            if !self.is_running(&name) {
                self.board.say("INFO", &name, "starting");
                starting.push((
                    name,
                    services::start_worker(&self.layout, wish, shared, number)?,
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
            self.watch(&name, &service.process, &service.place);
            self.services.insert(name, service);
        }
        Ok(())
    }

    async fn await_ready(&mut self, name: String, service: Service) -> anyhow::Result<()> {
        service.wait_ready().await?;
        self.watch(&name, &service.process, &service.place);
        self.services.insert(name, service);
        Ok(())
    }

    fn is_running(&self, name: &str) -> bool {
        self.services
            .get(name)
            .is_some_and(|service| service.process.is_running())
    }

    /// Puts a ready process on the board, and takes it off with a line when it ends.
    fn watch(&self, name: &str, process: &Process, place: &str) {
        let pid = process.pid();
        self.board.started(name, pid, place);
        self.board
            .say("INFO", name, &format!("ready: pid {pid}, {place}"));
        let (board, name, ended) = (Arc::clone(&self.board), name.to_owned(), process.ended());
        tokio::spawn(async move {
            let how = ended.await;
            board.ended(&name, pid);
            let level = if how.success() { "INFO" } else { "ERROR" };
            board.say(level, &name, &format!("ended: pid {pid}, {how}"));
        });
    }

    async fn api_key(&mut self, wish: &Wish, shared: &Env, url: &str) -> anyhow::Result<String> {
        if let Some(key) = &self.memory.api_key
            && provision::key_works(url, key).await
        {
            return Ok(key.clone());
        }
        let key = provision::create_key(&self.layout, wish, shared).await?;
        self.memory.api_key = Some(key.clone());
        Ok(key)
    }

    /// A foreign database may not let us make roles; jobs run without.
    async fn operator_login(&mut self, shared: &Env) {
        let database_url = match value(shared, "DATABASE_DIRECT_URL") {
            "" => value(shared, "DATABASE_URL"),
            direct => direct,
        };
        let password = self
            .memory
            .ops_password
            .get_or_insert_with(|| secret::hex(16));
        self.memory.ops_url = match provision::operator_login(database_url, password).await {
            Ok(ops_url) => Some(ops_url),
            Err(error) => {
                self.board.say(
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
        let Memory {
            api_key, ops_url, ..
        } = &self.memory;
        env.extend(api_key.clone().map(|api_key| ("DARKROOM_API_KEY", api_key)));
        env.extend(ops_url.clone().map(|ops_url| ("DARKROOM_OPS_URL", ops_url)));
        env.extend(shared.iter().cloned());
        env.extend(FURTHER.map(|variable| (variable, ANY_PORT.to_owned())));
        env_file::write(&self.layout, &env)
    }

    /// Stops all in the order in which they need each other.
    pub(super) async fn stop(&mut self) {
        for (kind, grace) in [("worker-", WORKER_GRACE), ("api-", API_GRACE)] {
            let these = self
                .services
                .iter()
                .filter(|(name, _)| name.starts_with(kind));
            join_all(these.map(|(_, service)| service.process.stop(Signal::SIGTERM, grace))).await;
        }
        if let Some(s3) = &self.s3 {
            s3.process.stop(Signal::SIGTERM, S3_GRACE).await;
        }
        if let Some(postgres) = &self.postgres {
            postgres.stop().await;
        }
        // The lines of their ends come from tasks that woke up just now.
        while !self.board.rows().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn value<'a>(env: &'a Env, wanted: &str) -> &'a str {
    env.iter()
        .find(|(name, _)| *name == wanted)
        .map_or("", |(_, value)| value)
}
