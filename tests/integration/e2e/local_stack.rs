//! `./deploy/local/up`: what scripts rely on.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use local::{Process, Program};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tests::{Client, eventually, fixtures};
use tokio::process::Command;

/// A detached stack in its own folder; `drop` stops the stack and deletes its data.
struct LocalStack {
    folder: tempfile::TempDir,
    port: String,
}

impl LocalStack {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("darkroom-stack-")
            .tempdir()
            .unwrap();
        let port = local::free_port().unwrap().to_string();
        Self { folder, port }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(local::bin_dir().unwrap().join("darkroom-local"));
        command.args(args).arg("--data").arg(self.data());
        // These variables name the stores of the test run. The local stack must start its own stores.
        for name in [
            "DATABASE_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            command.env_remove(name);
        }
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().await.unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        output
    }

    async fn up(&self) {
        self.run(&["up", "--detach", "--no-sample", "--port", &self.port])
            .await;
    }

    fn env(&self) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(self.data().join("env")).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line
                    .strip_prefix("export ")
                    .unwrap()
                    .split_once('=')
                    .unwrap();
                (name.to_owned(), value.trim_matches(['"', '\'']).to_owned())
            })
            .collect()
    }

    fn pid(&self, name: &str) -> i32 {
        let text = std::fs::read_to_string(self.data().join("pids").join(name)).unwrap();
        text.trim().parse().unwrap()
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        let mut down = std::process::Command::new(local::bin_dir().unwrap().join("darkroom-local"));
        drop(
            down.args(["down", "--wipe", "--data"])
                .arg(self.data())
                .output(),
        );
    }
}

fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn up_provides_everything_that_scripts_rely_on() {
    let stack = LocalStack::new();
    stack.up().await;
    let env = stack.env();
    for name in [
        "DARKROOM_URL",
        "DARKROOM_API_KEY",
        "DATABASE_URL",
        "DARKROOM_OPS_URL",
        "DARKROOM_S3_BUCKET",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        assert!(
            env.get(name).is_some_and(|value| !value.is_empty()),
            "{name}: {env:?}"
        );
    }
    assert!(env["DARKROOM_URL"].ends_with(&stack.port));

    let client = Client::new(&env["DARKROOM_URL"], Some(env["DARKROOM_API_KEY"].clone()));
    let job = client.predicted("", fixtures::photo("coffee.jpg")).await;
    assert_eq!(job["result"]["labels"][0]["label"], "espresso");

    for name in ["postgres", "s3", "api-1", "worker-1"] {
        assert!(is_running(stack.pid(name)), "{name}");
        let log = stack.data().join("logs").join(format!("{name}.log"));
        for line in std::fs::read_to_string(&log).unwrap().lines() {
            let parsed = serde_json::from_str::<Value>(line);
            assert!(parsed.is_ok(), "{name}: {line}");
        }
    }

    let mut operator = PgConnection::connect(&env["DARKROOM_OPS_URL"])
        .await
        .unwrap();
    let seen = sqlx::query_scalar::<_, i64>("select count(*) from ops.jobs");
    assert_eq!(seen.fetch_one(&mut operator).await.unwrap(), 1);
    let tables = sqlx::query("select * from finished_jobs")
        .execute(&mut operator)
        .await;
    assert!(
        tables.is_err(),
        "the operator's login may read the views of `ops`, not the tables"
    );
}

#[tokio::test]
async fn a_second_up_starts_only_the_missing_processes() {
    let stack = LocalStack::new();
    stack.up().await;
    let before = ["postgres", "s3", "api-1"].map(|name| stack.pid(name));
    let worker = stack.pid("worker-1");
    let killed = Command::new("kill")
        .args(["-9", &worker.to_string()])
        .status()
        .await;
    assert!(killed.unwrap().success());
    eventually(Duration::from_secs(10), "the worker is gone", || async {
        (!is_running(worker)).then_some(())
    })
    .await;

    stack.up().await;
    assert_eq!(
        before,
        ["postgres", "s3", "api-1"].map(|name| stack.pid(name))
    );
    assert_ne!(stack.pid("worker-1"), worker);
    assert!(is_running(stack.pid("worker-1")));

    let status = stack.run(&["status"]).await;
    let status = String::from_utf8_lossy(&status.stdout).into_owned()
        + &String::from_utf8_lossy(&status.stderr);
    for name in ["postgres", "s3", "api-1", "worker-1"] {
        assert!(status.contains(name), "{status}");
    }
}

/// The URL on which a process listens, by its log.
async fn listen_url(process: &Process, message: &str) -> String {
    eventually(Duration::from_secs(20), "the process listens", || async {
        let log = process.log();
        let lines = log.lines().map(serde_json::from_str::<Value>);
        let said = lines.flatten().find(|line| line["message"] == message)?;
        Some(format!("http://{}", said["listen"].as_str()?))
    })
    .await
}

#[tokio::test]
async fn up_says_the_commands_of_its_own_data_folder() {
    let stack = LocalStack::new();
    let up = ["up", "--detach", "--no-sample", "--port", &stack.port];
    let up = stack.run(&up).await;
    let said = String::from_utf8_lossy(&up.stdout).into_owned();
    for script in ["down", "status", "psql"] {
        let command = format!("./deploy/local/{script} --data {}", stack.data().display());
        assert!(said.contains(&command), "{said}");
    }
    stack.run(&["down"]).await;
    let status = stack.command(&["status"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    let up = format!("./deploy/local/up --data {}", stack.data().display());
    assert!(said.contains(&up), "{said}");
}

#[tokio::test]
async fn another_api_and_worker_start_from_the_env_file_alone() {
    let stack = LocalStack::new();
    stack.up().await;
    let further = |program: &str| {
        Program::new(local::bin_dir().unwrap().join(program))
            .envs(stack.env())
            .env("DARKROOM_MODEL_CACHE_DIR", stack.data().join("model-cache"))
            .spawn(&stack.folder.path().join(format!("{program}.log")))
            .unwrap()
    };
    let (api, worker) = (further("darkroom-api"), further("darkroom-worker"));
    let url = listen_url(&api, "ready").await;
    let client = Client::new(&url, Some(stack.env()["DARKROOM_API_KEY"].clone()));
    let job = client.predicted("", fixtures::photo("coffee.jpg")).await;
    assert_eq!(job["status"], "succeeded");
    let health = listen_url(&worker, "health and metrics").await;
    let ready = format!("{health}/readyz");
    let ready = worker.wait_ready(&ready, Duration::from_secs(20));
    ready.await.unwrap();
}

#[tokio::test]
async fn down_with_wipe_leaves_no_process_and_no_data() {
    let stack = LocalStack::new();
    stack.up().await;
    let pids = ["postgres", "s3", "api-1", "worker-1"].map(|name| stack.pid(name));
    stack.run(&["down", "--wipe"]).await;
    for pid in pids {
        assert!(!is_running(pid), "{pid}");
    }
    assert!(!stack.data().join("postgres").exists());
    assert!(!stack.data().join("objects").exists());
}
