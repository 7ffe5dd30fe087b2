//! The running system of one chaos run: a Postgres, an S3 server, the APIs and the workers.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    Secret,
    db::{Db, DbConfig},
    keys::{self, KeyLimits, NewKey, Scope},
    models::{self, ModelFolder},
    object_store::{ObjectStore, StoreConfig},
};
use local::{Credentials, Postgres, PostgresOptions, S3, S3Options};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::fixtures;
use tokio::{sync::Mutex, task::JoinHandle, time::sleep};

use crate::{
    clocks::WRONG_BY_SECONDS,
    disks::Disk,
    history::History,
    member::{Member, MemberContext, Version},
};

pub const OWNER: &str = "alice";
pub const BUCKET: &str = "darkroom";
/// Lease of the workers. Short, so that many leases end in a run.
pub const LEASE: Duration = Duration::from_secs(2);

/// What `main` decides before it starts threads.
#[derive(Debug)]
pub struct Setup {
    pub credentials: Credentials,
    pub s3_port: u16,
    /// Whether this process may mount disks, which can then be full.
    pub can_mount: bool,
    /// Folder with the programs of an earlier version.
    pub yesterday: Option<PathBuf>,
}

#[derive(Debug)]
pub struct Cluster {
    pub apis: Vec<Arc<Member>>,
    pub workers: Vec<Arc<Member>>,
    /// A pool that goes past all proxies.
    pub db: Db,
    pub store: ObjectStore,
    pub key: String,
    /// None if this process may not mount.
    pub disks: Option<Disks>,
    supervisors: Vec<JoinHandle<()>>,
    s3: Mutex<S3>,
    credentials: Credentials,
    postgres: Mutex<Option<Postgres>>,
    folder: PathBuf,
}

#[derive(Debug)]
pub struct Disks {
    /// Disk of the tables of Postgres. The write-ahead log is on a real disk.
    pub tables: Disk,
    pub objects: Disk,
}

impl Cluster {
    pub async fn open(history: &History, setup: Setup) -> Self {
        let Setup {
            credentials,
            s3_port,
            can_mount,
            yesterday,
        } = setup;
        let folder = history.folder().to_owned();
        // If this process is root, Postgres runs as another user, and must pass through this folder to its own.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let objects = can_mount
            .then(|| Disk::mount_at(folder.join("objects"), &folder))
            .flatten();
        let (postgres, s3) = tokio::join!(
            start_postgres(&folder),
            start_s3(&folder, &credentials, s3_port)
        );
        let url = postgres.url();
        let mut disks = None;
        if let Some(objects) = objects
            && let Some(tables) = Disk::mount_at(folder.join("tables"), postgres.data())
        {
            move_tables(&url, &tables).await;
            disks = Some(Disks { tables, objects });
        }
        let db = Db::connect(&db_config(&url), "chaos").unwrap();
        jobs::MIGRATOR.run(db.pool()).await.unwrap();
        let store = ObjectStore::connect(&StoreConfig::of_bucket(BUCKET)).await;
        let store = store.unwrap();
        store.create_bucket().await.unwrap();
        let picky = fixtures::folder().join("picky");
        for model in [
            fixtures::model(fixtures::CLASSIFIER),
            fixtures::model(fixtures::EMBEDDER),
            picky,
        ] {
            let model = ModelFolder::read(&model).unwrap();
            models::push(&db, &store, &model, None, false)
                .await
                .unwrap();
        }
        let key = NewKey {
            name: "chaos".into(),
            owner: OWNER.into(),
            scopes: vec![Scope::Submit, Scope::Read],
            expires_at: None,
            limits: KeyLimits::default(),
        };
        let key = keys::create(&db, &key, None)
            .await
            .unwrap()
            .key
            .expose()
            .into();

        let context = MemberContext {
            folder: &folder,
            postgres_url: &url,
            s3_port,
            yesterday: yesterday.as_deref(),
        };
        let (apis, workers) = members(&context).await;
        let supervisors = apis.iter().chain(&workers);
        let supervisors = supervisors.map(|member| tokio::spawn(member.clone().supervise()));
        let cluster = Self {
            supervisors: supervisors.collect(),
            apis,
            workers,
            db,
            store,
            key,
            disks,
            s3: Mutex::new(s3),
            credentials,
            postgres: Mutex::new(Some(postgres)),
            folder,
        };
        cluster.wait_ready().await;
        cluster
    }

    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.apis.iter().chain(&self.workers)
    }

    pub fn clocks_can_be_wrong(&self) -> bool {
        self.members().all(|member| member.has_own_clock())
    }

    /// URLs of the APIs for clients: those of the proxies in front of the APIs.
    pub fn fronts(&self) -> Vec<String> {
        let fronts = self.apis.iter().filter_map(|api| api.front.as_ref());
        fronts
            .map(|front| format!("http://127.0.0.1:{}", front.port()))
            .collect()
    }

    async fn wait_ready(&self) {
        let http = reqwest::Client::new();
        for front in self.fronts() {
            let ready = format!("{front}/readyz");
            tests::eventually(Duration::from_mins(1), "an API is ready", || async {
                let answer = http.get(&ready).send().await.ok()?;
                answer.status().is_success().then_some(())
            })
            .await;
        }
    }

    /// Stops Postgres, by a fast shutdown or by `kill -9` of the postmaster, and starts Postgres again.
    pub async fn restart_postgres(&self, by_force: bool) {
        let mut running = self.postgres.lock().await;
        if let Some(postgres) = running.take() {
            let port = postgres.port();
            if by_force {
                postgres.process.kill().await;
            } else {
                postgres.stop().await;
            }
            drop(postgres);
            let again = start_postgres(&self.folder).await;
            assert_eq!(
                again.port(),
                port,
                "another process took the port of Postgres"
            );
            *running = Some(again);
        }
    }

    /// Decides whether connections that are opened from now on may write, and cuts all others. As after a failover, a connection
    /// to the server that takes no writes stays such a connection for as long as it is open.
    pub async fn fail_over(&self, to_read_only: bool) {
        let running = self.postgres.lock().await;
        let postgres = running.as_ref().expect("no other fault of Postgres runs");
        let setting = if to_read_only {
            "set default_transaction_read_only = on"
        } else {
            "reset default_transaction_read_only"
        };
        let mut db = PgConnection::connect(&postgres.url()).await.unwrap();
        let change = format!("begin read write; alter database darkroom {setting}; commit");
        let change = sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut db);
        change.await.unwrap();
        if to_read_only {
            self.members().for_each(|member| member.postgres.cut());
        }
    }

    pub async fn restart_s3(&self, away: Duration) {
        let mut running = self.s3.lock().await;
        let port = running.port();
        running.process.kill().await;
        sleep(away).await;
        *running = start_s3(&self.folder, &self.credentials, port).await;
    }

    /// Sets the faults of the S3 server from now on; `None`: no faults.
    pub fn s3_faults(&self, wanted: Option<&Value>) {
        let file = self.folder.join("objects/faults.json");
        match wanted {
            Some(wanted) => std::fs::write(file, wanted.to_string()).unwrap(),
            None => drop(std::fs::remove_file(file)),
        }
    }

    /// How often the programs of each version were started.
    pub fn starts(&self) -> Value {
        let of = |version| {
            self.members()
                .map(|member| member.starts(version))
                .sum::<u32>()
        };
        json!({ "today": of(Version::Today), "yesterday": of(Version::Yesterday) })
    }

    pub fn heal(&self) {
        if let Some(Disks { tables, objects }) = &self.disks {
            tables.free();
            objects.free();
        }
        self.s3_faults(None);
        self.members().for_each(|member| member.heal());
    }

    /// All rows of a query as JSON. Retries for 30 s while Postgres is away.
    pub async fn rows(&self, sql: &'static str) -> Vec<Value> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match sqlx::query_scalar(sql).fetch_all(&self.db).await {
                Ok(rows) => return rows,
                Err(error) => assert!(Instant::now() < until, "{sql}: {error}"),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Stops the supervisors first: they would start the processes again.
        self.supervisors.iter().for_each(JoinHandle::abort);
        self.members().for_each(|member| {
            member.set_wanted(false);
            member.kill();
        });
    }
}

async fn members(context: &MemberContext<'_>) -> (Vec<Arc<Member>>, Vec<Arc<Member>>) {
    let lease = LEASE.as_secs().to_string();
    let cache = context.folder.join("models");
    let spool = context.folder.join("objects/spool");
    std::fs::create_dir_all(&spool).unwrap();
    let shared = [
        ("DARKROOM_S3_BUCKET", BUCKET),
        ("DARKROOM_S3_TIMEOUT_MS", "6000"),
        ("DARKROOM_DB_ACQUIRE_TIMEOUT_MS", "3000"),
        ("DARKROOM_DB_STATEMENT_TIMEOUT_MS", "5000"),
    ];
    let api = [
        ("DARKROOM_HTTP_THREADS", "1"),
        ("DARKROOM_ATTEMPT_TIMEOUT_SECONDS", "15"),
        ("DARKROOM_SHUTDOWN_SECONDS", "3"),
        // Spools large photos to the disk of the objects, which may be full.
        ("DARKROOM_SPOOL_MEMORY_BYTES_MAX", "50000"),
        ("TMPDIR", spool.to_str().unwrap()),
    ];
    let worker = [
        ("DARKROOM_DEVICE", "cpu"),
        ("DARKROOM_LEASE_SECONDS", lease.as_str()),
        ("DARKROOM_MODEL_CACHE_DIR", cache.to_str().unwrap()),
        ("DARKROOM_INFER_THREADS", "1"),
        ("DARKROOM_DECODE_THREADS", "1"),
        ("DARKROOM_DRAIN_SECONDS", "4"),
    ];
    let (mut apis, mut workers) = (vec![], vec![]);
    for number in 1..=2 {
        let env = [&shared[..], &api].concat();
        let wrong_by = [WRONG_BY_SECONDS, -WRONG_BY_SECONDS][number - 1];
        let name = format!("api-{number}");
        apis.push(Member::new(context, "darkroom-api", &name, wrong_by, &env).await);
    }
    for (number, batch_max, wrong_by) in [
        (1, "8", -WRONG_BY_SECONDS),
        (2, "4", WRONG_BY_SECONDS),
        (3, "2", 0),
    ] {
        let env = [&shared[..], &worker, &[("DARKROOM_BATCH_MAX", batch_max)]].concat();
        let name = format!("worker-{number}");
        workers.push(Member::new(context, "darkroom-worker", &name, wrong_by, &env).await);
    }
    (apis, workers)
}

async fn start_postgres(folder: &std::path::Path) -> Postgres {
    let postgres = Postgres::start(PostgresOptions {
        data: folder.join("postgres"),
        log: folder.join("postgres.log"),
        bin: None,
    });
    postgres.await.unwrap()
}

/// Moves the tables of the database to the disk. No client may be connected to the database.
async fn move_tables(url: &str, disk: &Disk) {
    let mut url = reqwest::Url::parse(url).unwrap();
    let database = url.path().trim_start_matches('/').to_owned();
    url.set_path("postgres");
    let mut db = PgConnection::connect(url.as_str()).await.unwrap();
    for statement in [
        format!("create tablespace small location '{}'", disk.at().display()),
        format!("alter database {database} set tablespace small"),
    ] {
        let statement = sqlx::query(AssertSqlSafe(statement));
        statement.execute(&mut db).await.unwrap();
    }
}

async fn start_s3(folder: &std::path::Path, credentials: &Credentials, port: u16) -> S3 {
    let s3 = S3::start(S3Options {
        data: folder.join("objects"),
        log: folder.join("s3.log"),
        port: Some(port),
        credentials: credentials.clone(),
        program: local::bin_dir().unwrap().join("darkroom-local"),
    });
    s3.await.unwrap()
}

fn db_config(url: &str) -> DbConfig {
    DbConfig {
        database_url: Secret::new(url),
        database_direct_url: None,
        database_password_file: None,
        db_connections_max: 4,
        db_acquire_timeout_ms: 5_000,
        db_statement_timeout_ms: 10_000,
        no_migrate: true,
    }
}
