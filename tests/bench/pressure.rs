//! Two models on a GPU whose memory another process holds. The models take turns, and every image must be done.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tests::Stack;

use crate::{
    Bench,
    load::{self, Until},
    rounded,
};

/// Name of the copy of the model.
const TWIN: &str = "twin";

pub(crate) async fn measure(bench: &Bench, free_mib: usize) -> Value {
    let photos = load::read(&bench.photos);
    let stack = Stack::with_models().await;
    let model = bench.pushed_model(&stack).await;
    let twin = tempfile::tempdir().unwrap();
    make_twin(&bench.model, twin.path());
    let folder = jobs::models::ModelFolder::read(twin.path()).unwrap();
    let pushed = jobs::models::push(&stack.db, &stack.store, &folder, None, false).await;
    pushed.unwrap();

    let held = Held::all_but(free_mib);
    let worker = bench.worker(&stack, "bench").await;
    let load = async |model: &str| {
        let until = Until::Seconds(bench.seconds);
        let (took, seconds, _) =
            load::closed_loop_of(model, &stack.client, &photos, bench.clients / 2, until).await;
        took.len() as f64 / seconds
    };
    let (of_one, of_other) = tokio::join!(load(&model), load(TWIN));
    drop(held);
    let log = worker.log();
    let times = |message: &str| log.matches(message).count();
    json!({
        "free_mib": free_mib, "images_per_s": [rounded(of_one), rounded(of_other)], "loaded": times("model loaded"),
        "not_loaded": times("model not loaded"), "unloaded": times("unloaded: least recently used"),
        "halved": times("trying its halves"), "smaller_batches": times("smaller batches from now on"),
        "device": bench.device, "precision": bench.precision, "model": model, "clients": bench.clients,
        "seconds": bench.seconds,
    })
}

fn make_twin(model: &Path, twin: &Path) {
    for file in std::fs::read_dir(model).unwrap().flatten() {
        std::os::unix::fs::symlink(file.path(), twin.join(file.file_name())).unwrap();
    }
    let path = twin.join("model.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["name"] = TWIN.into();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, manifest.to_string()).unwrap();
}

/// Another process that holds memory of the GPU.
struct Held(Child);

impl Held {
    fn all_but(free_mib: usize) -> Self {
        let program = local::checkout().unwrap().join("tests/bench/heavy/hold.py");
        let mut holder = Command::new("python3")
            .arg(program)
            .arg(free_mib.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let said = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line);
        assert!(said.unwrap() > 0, "the other process holds no memory");
        eprintln!("another process {}", line.trim());
        Self(holder)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
