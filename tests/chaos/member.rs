//! One process of the service behind proxies of its own. A supervisor starts it again whenever it ends.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use local::{Process, Program, Signal};
use tests::{
    decoders::kill_decoders_of,
    proxy::{NetworkState, Protocol, Proxy},
};
use tokio::time::sleep;

use crate::clocks::Clock;

#[derive(Debug)]
pub struct Member {
    pub name: String,
    pub postgres: Proxy,
    pub s3: Proxy,
    /// Proxy between an API and its clients. Workers have none.
    pub front: Option<Proxy>,
    /// A wrong clock; none if libfaketime is not installed.
    clock: Option<Clock>,
    /// The programs of today and, with `--yesterday`, those of yesterday. Starts use them in turns.
    programs: Vec<(Version, PathBuf)>,
    starts: Mutex<Vec<Version>>,
    env: Vec<(String, String)>,
    pub log: PathBuf,
    process: Mutex<Option<Process>>,
    wanted: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Today,
    Yesterday,
}

/// What all members have in common.
#[derive(Debug)]
pub struct MemberContext<'a> {
    pub folder: &'a std::path::Path,
    pub postgres_url: &'a str,
    pub s3_port: u16,
    /// Folder with the programs of an earlier version.
    pub yesterday: Option<&'a std::path::Path>,
}

impl Member {
    /// A process of `program`, not started yet.
    pub async fn new(
        context: &MemberContext<'_>,
        program: &'static str,
        name: &str,
        wrong_by_seconds: i64,
        env: &[(&str, &str)],
    ) -> Arc<Self> {
        let mut url = reqwest::Url::parse(context.postgres_url).unwrap();
        let postgres = Proxy::start(Protocol::Postgres, url.port().unwrap()).await;
        let s3 = Proxy::start(Protocol::Http, context.s3_port).await;
        url.set_port(Some(postgres.port())).unwrap();
        let front = match program {
            "darkroom-api" => Some(Proxy::start(Protocol::Http, 0).await),
            _ => None,
        };
        let endpoint = format!("http://127.0.0.1:{}", s3.port());
        let own = [
            ("DATABASE_URL", url.as_str()),
            ("AWS_ENDPOINT_URL_S3", &endpoint),
        ];
        let env = own.iter().chain(env);
        let yesterday = context
            .yesterday
            .map(|folder| (Version::Yesterday, folder.to_owned()));
        let folders = yesterday
            .into_iter()
            .chain([(Version::Today, local::bin_dir().unwrap())]);
        let programs = folders.map(|(version, folder)| (version, folder.join(program)));
        Arc::new(Self {
            name: name.to_owned(),
            env: env
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            postgres,
            s3,
            front,
            clock: Clock::wrong_by(
                context.folder.join(format!("{name}.clock")),
                wrong_by_seconds,
            ),
            programs: programs.collect(),
            starts: Mutex::default(),
            log: context.folder.join(format!("{name}.log")),
            process: Mutex::new(None),
            wanted: AtomicBool::new(true),
        })
    }

    /// Starts the process whenever it has ended and is wanted, as systemd would.
    pub async fn supervise(self: Arc<Self>) {
        loop {
            if self.wanted.load(Relaxed) && !self.is_running() {
                self.start();
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn start(&self) {
        let port = local::free_port().unwrap();
        let other = local::free_port().unwrap();
        let (listen, other) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{other}"));
        let program = {
            let mut starts = self.starts.lock().unwrap();
            let (version, program) = &self.programs[starts.len() % self.programs.len()];
            starts.push(*version);
            program
        };
        let mut program = Program::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DARKROOM_") {
                program = program.env_remove(name);
            }
        }
        let listeners = match &self.front {
            Some(front) => {
                front.set_server(port);
                [
                    ("DARKROOM_LISTEN", &listen),
                    ("DARKROOM_METRICS_LISTEN", &other),
                ]
            }
            None => [
                ("DARKROOM_HEALTH_LISTEN", &listen),
                ("DARKROOM_WORKER_NAME", &self.name),
            ],
        };
        let program = program.envs(listeners);
        let clock = self.clock.iter().flat_map(Clock::env);
        let program = program.envs(clock);
        let libraries = local::ld_library_path();
        let program = program.envs(libraries.map(|path| ("LD_LIBRARY_PATH", path)));
        let process = program.envs(self.env.iter().cloned()).spawn(&self.log);
        *self.process.lock().unwrap() = Some(process.unwrap());
    }

    pub fn is_running(&self) -> bool {
        let process = self.process.lock().unwrap();
        process.as_ref().is_some_and(Process::is_running)
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process.lock().unwrap() {
            process.signal(signal);
        }
    }

    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Kills the decoders of a worker.
    pub fn kill_decoders(&self) {
        if let Some(process) = &*self.process.lock().unwrap() {
            kill_decoders_of(process.pid());
        }
    }

    /// Sets whether the supervisor starts the process again.
    pub fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Relaxed);
    }

    pub fn networks(&self) -> impl Iterator<Item = &Proxy> {
        [&self.postgres, &self.s3].into_iter().chain(&self.front)
    }

    /// Sets the offset of the clock. False if the process uses the clock of the machine.
    pub fn set_clock(&self, seconds: i64) -> bool {
        self.clock.as_ref().is_some_and(|clock| {
            clock.set(seconds);
            true
        })
    }

    pub fn has_own_clock(&self) -> bool {
        self.clock.is_some()
    }

    pub fn starts(&self, of: Version) -> u32 {
        let starts = self.starts.lock().unwrap();
        starts.iter().map(|version| u32::from(*version == of)).sum()
    }

    /// Heals the networks, and continues a stopped process.
    pub fn heal(&self) {
        self.set_wanted(true);
        self.signal(Signal::SIGCONT);
        for network in self.networks() {
            network.set(NetworkState::HEALTHY);
        }
    }
}
