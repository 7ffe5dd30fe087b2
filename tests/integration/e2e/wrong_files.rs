//! A file that workers cannot run is refused by a push and by a check: by name, with what to do. Nothing is registered.

use std::path::Path;

use serde_json::{Value, json};
use tests::{Stack, fixtures};

/// A file of `tests/fixtures/artifacts`, what the message calls it, and what the message says to do.
const WRONG_FILES: [(&str, &str, &str); 14] = [
    (
        "exported.pt2",
        "exported program",
        "darkroom models compile",
    ),
    (
        "aoti-source.pt2",
        "without its compiled library",
        "aoti_compile_and_package",
    ),
    ("state-dict.pth", "state_dict", "load_state_dict"),
    ("checkpoint.pt", "checkpoint", r#"["state_dict"]"#),
    ("module.pt", "`own_nets.OwnNet`", "torch.load"),
    ("module-legacy.pt", "`own_nets.OwnNet`", "torch.load"),
    ("weights.safetensors", "safetensors", "load_file"),
    ("model.onnx", "ONNX", "onnx2torch"),
    (
        "lfs-pointer.pt",
        "Git LFS pointer to a file of 18559938 bytes",
        "git lfs pull",
    ),
    ("cut-off.pt", "cut off", "again"),
    ("cut-inside.pt", "cut off", "again"),
    ("empty.pt", "empty file", "again"),
    ("login.pt", "web page", "browser"),
    ("roi-pool.pt", "torchvision::roi_pool", "operators"),
];

/// A model folder with this file as its artifact.
fn write_folder(folder: &Path, fixture: &str) {
    let artifact = fixtures::folder().join("artifacts").join(fixture);
    std::fs::copy(artifact, folder.join(fixture)).unwrap();
    let manifest = json!({
        "name": "net", "task": "raw", "artifact": fixture,
        "input": {"width": 4, "height": 4, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255]},
    });
    std::fs::write(folder.join("model.json"), manifest.to_string()).unwrap();
}

async fn versions(stack: &Stack) -> Value {
    stack.client.get("/v1/models/net/versions").await.json()
}

#[tokio::test]
async fn each_wrong_kind_of_file_is_named_and_nothing_is_registered() {
    let stack = Stack::bare(&[]).await;
    let right = tempfile::tempdir().unwrap();
    write_folder(right.path(), "torchscript.pt");
    stack.push(right.path().to_str().unwrap()).await;
    let alias = ["models", "alias", "net", "stable", "1"];
    assert!(stack.command(&alias).await.status.success());
    let registered = versions(&stack).await;
    let objects = stack.store.list("models/", "", 100).await.unwrap();

    for (fixture, kind, advice) in WRONG_FILES {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), fixture);
        let path = folder.path().to_str().unwrap();
        for command in [
            &["models", "push", path, "--alias", "stable"][..],
            &["models", "check", path],
        ] {
            let run = stack.command(command).await;
            let said = [run.stdout, run.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            assert_eq!(run.status.code(), Some(2), "{fixture}: {said}");
            for part in ["artifact: ", fixture, kind, advice] {
                assert!(said.contains(part), "{command:?}: no {part} in: {said}");
            }
        }
    }
    assert_eq!(versions(&stack).await, registered);
    let objects_after = stack.store.list("models/", "", 100).await.unwrap();
    assert_eq!(objects_after.len(), objects.len(), "no file was stored");
}

#[tokio::test]
async fn a_check_needs_no_service_and_no_credentials() {
    let stack = Stack::bare(&[]).await;
    let folder = fixtures::folder().join("tasks/bright-box");
    let mut check = stack.command_line("");
    // Only the path to the program is taken from the stack.
    check.env_clear().args(["models", "check", "--json"]);
    let run = check.arg(&folder).output().await.unwrap();
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["artifacts"][0]["kind"], "torchscript");
    assert_eq!(report["labels"]["count"], 2);
    assert_eq!(report["mistakes"], json!([]));
}

#[tokio::test]
async fn a_model_whose_bytes_were_changed_is_not_registered() {
    let stack = Stack::bare(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), "torchscript.pt");
    let path = folder.path().join("torchscript.pt");
    let mut bytes = std::fs::read(&path).unwrap();
    // The only weight of the fixture. libtorch would load the file, and the model would answer wrongly.
    let weight = 64.5_f32.to_le_bytes();
    let at = bytes.windows(4).position(|four| four == weight).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let push = ["models", "push", folder.path().to_str().unwrap()];
    let run = stack.command(&push).await;
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.contains("do not fit their checksum"), "{said}");
    assert_eq!(stack.client.get("/v1/models/net").await.status, 404);
}
