//! Programs that use the API: the Python client, a generated TypeScript client, the examples.
//!
//! `clients/setup` installs their packages from `PyPI` and npm, once per machine and checkout.

use std::{path::PathBuf, process::Output};

use tests::{Stack, fixtures};
use tokio::process::Command;

fn root() -> PathBuf {
    fixtures::folder().join("../..").canonicalize().unwrap()
}

/// A stack with a worker, and the API key that client programs get.
pub(super) struct ClientRunner {
    stack: Stack,
    _worker: tests::stack::Running,
    key: String,
}

impl ClientRunner {
    pub(super) async fn new(needs: &str) -> Self {
        let setup = Command::new(root().join("clients/setup"))
            .arg(needs)
            .output();
        assert_success("clients/setup", &setup.await.unwrap());
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
        assert_success(program, &output);
        output
    }

    pub(super) async fn python(&self, args: &[&str]) -> Output {
        let path = ["clients/python/src", ".local/clients/python"].map(|path| root().join(path));
        let path = path.map(|path| path.display().to_string()).join(":");
        let env = [
            ("PYTHONPATH", path),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ];
        self.run("python3", args, &env).await
    }

    /// Runs a script of `examples/typescript/package.json`, in the copy with installed packages.
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
fn assert_success(program: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{program}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn coffee_path() -> String {
    fixtures::folder()
        .join("photos/coffee.jpg")
        .display()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_passes_its_tests() {
    let runner = ClientRunner::new("python").await;
    let no_cache = "-pno:cacheprovider";
    runner
        .python(&["-m", "pytest", "-q", no_cache, "clients/python/tests"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_predicts_a_folder() {
    let runner = ClientRunner::new("python").await;
    let photos = fixtures::folder().join("photos");
    let folder = tempfile::tempdir().unwrap();
    for photo in ["coffee.jpg", "cat.jpg"] {
        std::fs::copy(photos.join(photo), folder.path().join(photo)).unwrap();
    }
    let folder = folder.path().to_str().unwrap();
    for _ in 0..2 {
        let run = runner.python(&["examples/python_folder.py", folder]).await;
        let lines = String::from_utf8(run.stdout).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(lines.contains("espresso"), "{lines}");
    }
    let jobs = runner.stack.client.get("/v1/jobs").await.json();
    assert_eq!(jobs["data"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_typescript_client_compiles_submits_waits_and_reads() {
    let runner = ClientRunner::new("typescript").await;
    runner.npm(&["generate"]).await;
    // The build fails if the client does not type-check.
    runner.npm(&["build"]).await;
    let run = runner.npm(&["predict", "--", &coffee_path()]).await;
    let line: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(line["result"].to_string().contains("espresso"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_example_predicts_a_photo() {
    let runner = ClientRunner::new("python").await;
    let run = runner.run("examples/curl.sh", &[&coffee_path()], &[]).await;
    let result: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(result["labels"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_example_pushes_a_model() {
    let runner = ClientRunner::new("python").await;
    let folder = fixtures::folder().join("tasks/bright-box");
    let folder = folder.to_str().unwrap();
    for _ in 0..2 {
        let args = [folder, "stable"];
        let run = runner.run("examples/push_model.sh", &args, &[]).await;
        let told = String::from_utf8(run.stdout).unwrap();
        assert_eq!(told, "bright-box:1 is ready\n");
    }
    let versions = runner.stack.client.get("/v1/models/bright-box/versions");
    let versions = versions.await.json();
    assert_eq!(
        versions["data"][0]["aliases"],
        serde_json::json!(["default", "stable"])
    );
}
