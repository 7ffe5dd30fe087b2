//! What others write against the API: the Python client, a generated TypeScript client, the examples.
//!
//! `clients/setup` brings what they need from `PyPI` and npm, once a machine and checkout.

use std::{path::PathBuf, process::Output};

use tests::{Stack, fixtures};
use tokio::process::Command;

fn root() -> PathBuf {
    fixtures::folder().join("../..").canonicalize().unwrap()
}

/// A stack with a worker, and how programs beside it are told of it.
struct Beside {
    stack: Stack,
    _worker: tests::stack::Running,
    key: String,
}

impl Beside {
    async fn new(needs: &str) -> Self {
        let setup = Command::new(root().join("clients/setup"))
            .arg(needs)
            .output();
        succeeded("clients/setup", &setup.await.unwrap());
        let stack = Stack::with_models().await;
        let worker = stack.worker("w", &[]).await;
        let key = stack.key().await;
        Self {
            stack,
            _worker: worker,
            key,
        }
    }

    /// Runs a program in the root of the repository and expects a success.
    async fn run(&self, program: &str, args: &[&str], env: &[(&str, String)]) -> Output {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(root())
            .env("DARKROOM_URL", &self.stack.api.url)
            .env("DARKROOM_API_KEY", &self.key)
            .envs(env.iter().map(|(name, value)| (*name, value)))
            .kill_on_drop(true);
        let output = command.output().await.unwrap();
        succeeded(program, &output);
        output
    }

    async fn python(&self, args: &[&str]) -> Output {
        let path = ["clients/python/src", ".local/clients/python"].map(|path| root().join(path));
        let path = path.map(|path| path.display().to_string()).join(":");
        let env = [
            ("PYTHONPATH", path),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ];
        self.run("python3", args, &env).await
    }

    /// A script of `examples/typescript/package.json`, in its copy that has its packages.
    async fn npm(&self, args: &[&str]) -> Output {
        let clients = root().join(".local/clients");
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", clients.join("bin").display());
        let mut all = vec!["--prefix", ".local/clients/typescript", "--silent", "run"];
        all.extend(args);
        self.run("npm", &all, &[("PATH", path)]).await
    }
}

#[track_caller]
fn succeeded(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn coffee() -> String {
    fixtures::folder()
        .join("photos/coffee.jpg")
        .display()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_keeps_its_promises() {
    let beside = Beside::new("python").await;
    let no_cache = "-pno:cacheprovider";
    beside
        .python(&["-m", "pytest", "-q", no_cache, "clients/python/tests"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_predicts_a_folder() {
    let beside = Beside::new("python").await;
    let photos = fixtures::folder().join("photos");
    let folder = tempfile::tempdir().unwrap();
    for photo in ["coffee.jpg", "cat.jpg"] {
        std::fs::copy(photos.join(photo), folder.path().join(photo)).unwrap();
    }
    let folder = folder.path().to_str().unwrap();
    for _ in 0..2 {
        let run = beside.python(&["examples/python_folder.py", folder]).await;
        let lines = String::from_utf8(run.stdout).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(lines.contains("espresso"), "{lines}");
    }
    let jobs = beside.stack.client.get("/v1/jobs").await.json();
    assert_eq!(jobs["data"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_typescript_client_compiles_submits_waits_and_reads() {
    let beside = Beside::new("typescript").await;
    beside.npm(&["generate"]).await;
    // Nothing is built of what does not type-check.
    beside.npm(&["build"]).await;
    let run = beside.npm(&["predict", "--", &coffee()]).await;
    let line: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(line["result"].to_string().contains("espresso"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_with_curl_predicts_a_photo() {
    let beside = Beside::new("python").await;
    let run = beside.run("examples/curl.sh", &[&coffee()], &[]).await;
    let result: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(result["labels"].as_array().unwrap().len(), 3);
}
