//! `darkroom models check`: says what is in a model folder before it is pushed.

use std::path::PathBuf;

use clap::Args;
use indicatif::DecimalBytes;
use jobs::models::{ArtifactReport, FolderReport};
use serde_json::{Value, json};

use crate::{Ended, failure::Failure, terminal};

/// Checks a model folder: what its files are, every mistake, and what a worker will do
///
/// Needs no service and no credentials, and changes nothing. A push makes these checks first, so a folder with mistakes
/// cannot be pushed. What only a worker can tell, such as the shape of the output, is checked when the model is loaded.
///
/// DIR may also be a single file: the command then says what the file is, and how to make a model of it.
#[derive(Debug, Args)]
#[command(after_help = "\
A model is a folder with `model.json` (the manifest), the artifact, and a file with the labels if there are any. The artifact
is TorchScript, as this writes it:
  torch.jit.trace(model.eval(), torch.zeros(1, 3, HEIGHT, WIDTH)).save(\"model.pt\")

Examples:
  darkroom models check resnet/
  darkroom models check best.pt               what is this file?
  darkroom models check resnet/ && darkroom models push resnet/ --alias stable

Exit codes:
  0  no mistakes; there may be warnings
  2  there are mistakes")]
pub(crate) struct Check {
    /// Folder of `model.json`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// One JSON document: `{"folder", "ok", "manifest", "artifacts", "labels", "mistakes", "warnings"}`
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(self) -> Result<Ended, Failure> {
        let report = FolderReport::of(&self.folder);
        let folder = self.folder.display().to_string();
        if self.json {
            terminal::json(document(&folder, &report))?;
        } else {
            terminal::line(page(&report))?;
        }
        match report.mistakes.len() {
            0 => Ok(Ended::Well),
            1 => Err(Failure::Usage(format!(
                "{folder} cannot be pushed: 1 mistake"
            ))),
            many => Err(Failure::Usage(format!(
                "{folder} cannot be pushed: {many} mistakes"
            ))),
        }
    }
}

fn document(folder: &str, report: &FolderReport) -> Value {
    let artifact = |one: &ArtifactReport| {
        json!({
            "field": one.field, "file": one.file, "bytes": one.bytes, "kind": one.kind.code(),
            "can_run": one.kind.can_run(), "what_it_is": one.kind.what_it_is(),
            "what_to_do": one.kind.what_to_do(&one.file),
        })
    };
    let labels = report.labels.as_ref();
    let said = |(field, detail): (&String, &String)| json!({"field": field, "detail": detail});
    let mistakes = report
        .mistakes
        .iter()
        .map(|one| said((&one.field, &one.detail)));
    let warnings = report
        .warnings
        .iter()
        .map(|one| said((&one.field, &one.detail)));
    json!({
        "folder": folder,
        "ok": report.mistakes.is_empty(),
        "manifest": report.manifest,
        "artifacts": report.artifacts.iter().map(artifact).collect::<Vec<_>>(),
        "labels": labels.map(|labels| json!({"file": labels.file, "count": labels.count})),
        "mistakes": mistakes.collect::<Vec<_>>(),
        "warnings": warnings.collect::<Vec<_>>(),
    })
}

/// The report for people: what is there, then what is wrong.
fn page(report: &FolderReport) -> String {
    let manifest = report
        .manifest
        .as_ref()
        .and_then(|one| serde_json::to_value(one).ok());
    let manifest = manifest.unwrap_or_default();
    let text = |field: &str| terminal::bare(&manifest[field]);
    let mut facts = vec![("name", text("name")), ("task", text("task"))];
    for one in &report.artifacts {
        let (file, bytes) = (&one.file, DecimalBytes(one.bytes));
        facts.push((
            "artifact",
            format!("{file}: {}, {bytes}", one.kind.what_it_is()),
        ));
    }
    if let Some(labels) = &report.labels {
        facts.push((
            "labels",
            format!("{}: {} labels", labels.file, labels.count),
        ));
    }
    if manifest.is_object() {
        facts.extend(what_workers_do(&manifest));
    }
    let mut page = terminal::facts(facts);
    if report.mistakes.is_empty() {
        page.push_str("\n\nno mistakes");
    } else {
        page.push_str("\n\nmistakes:");
        for one in &report.mistakes {
            page.push_str(&item(&one.field, &one.detail));
        }
        // A file without a manifest has no field, and so no mistake of its own.
        for one in report.artifacts.iter().filter(|one| one.field.is_empty()) {
            let todo = one.kind.what_to_do(&one.file);
            if !todo.is_empty() {
                page.push_str(&item(
                    &one.file,
                    &format!("{}. {todo}", one.kind.what_it_is()),
                ));
            }
        }
    }
    if !report.warnings.is_empty() {
        page.push_str("\n\nwarnings:");
        for one in &report.warnings {
            page.push_str(&item(&one.field, &one.detail));
        }
    }
    page.trim_start().to_owned()
}

/// A mistake or a warning, with all its lines indented.
fn item(field: &str, detail: &str) -> String {
    format!("\n  {field}: {}", detail.replace('\n', "\n  "))
}

/// What a worker does with an image, as the manifest says.
fn what_workers_do(manifest: &Value) -> Vec<(&'static str, String)> {
    let (input, output) = (&manifest["input"], &manifest["output"]);
    let (width, height) = (&input["width"], &input["height"]);
    let decode = if input["full_decode"] == true {
        "JPEGs at full size (full_decode: true)"
    } else {
        "JPEGs at reduced size (full_decode: false); answers differ slightly from Pillow's"
    };
    let resize = match &input["resize"] {
        Value::Object(rule) => format!(
            "resize to shorter side {}, crop {}, {}",
            rule["shorter_side"],
            rule["crop"],
            terminal::bare(&rule["interpolation"])
        ),
        word => format!(
            "resize to {width} x {height} ({}, {})",
            terminal::bare(word),
            terminal::bare(&input["filter"])
        ),
    };
    let scale = format!("(pixel - {}) / {}", input["mean"], input["std"]);
    let method = terminal::bare(&manifest["method"]);
    let batch = &manifest["batch_max"];
    let precision = manifest["precision"].as_array().into_iter().flatten();
    let precision: Vec<_> = precision.map(terminal::bare).collect();
    let images = if input["form"] == "list" {
        format!("a list of n tensors [3, {height}, {width}]")
    } else {
        format!("[n, 3, {height}, {width}]")
    };
    let call = format!(
        "`{method}` gets {images}, n from 1 to {batch}, in {}",
        precision.join(", ")
    );
    let activation = match terminal::bare(&output["activation"]) {
        none if none.is_empty() || none == "none" => String::new(),
        activation => format!("{activation}, then "),
    };
    let result = match manifest["task"].as_str().unwrap_or_default() {
        "classify" => "the labels with the best scores",
        "embed" => "the vector of the image",
        "regress" => "one number",
        "detect" => "boxes in pixels of the upright image",
        "segment" => "a mask of the size of the upright image",
        _ => "all numbers, with their shape",
    };
    let params = manifest["params"].as_object().into_iter().flatten();
    let params: Vec<_> = params
        .map(|(name, spec)| format!("{name}={}", terminal::bare(&spec["default"])))
        .collect();
    vec![
        ("decode", decode.into()),
        (
            "image",
            format!("{resize}, then {scale} on pixels of 0 to 255"),
        ),
        ("model", call),
        ("result", format!("{activation}{result}")),
        ("params", params.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jobs::{manifest::Manifest, models::FolderReport};
    use serde_json::json;

    use super::{document, page};

    fn report(folder: &str) -> FolderReport {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        FolderReport::of(&root.join(folder))
    }

    #[test]
    fn a_right_folder_says_what_the_worker_does() {
        let page = page(&report("tests/fixtures/tasks/bright-box"));
        for part in [
            "model.pt: TorchScript",
            "labels.txt: 2 labels",
            "resize to 64 x 64 (letterbox, bilinear)",
            "`forward` gets [n, 3, 64, 64], n from 1 to 8, in fp32",
            "boxes in pixels of the upright image",
            "max_boxes=10 threshold=0.25",
            "\n\nno mistakes",
        ] {
            assert!(page.contains(part), "no {part} in:\n{page}");
        }
    }

    #[test]
    fn each_resize_form_and_decoding_is_told_in_words() {
        let manifest = |input: serde_json::Value| -> String {
            let manifest: Manifest = serde_json::from_value(json!({
                "name": "net", "task": "raw", "artifact": "model.pt", "batch_max": 4, "input": input,
            }))
            .expect("a manifest");
            page(&FolderReport {
                manifest: Some(manifest),
                ..FolderReport::default()
            })
        };
        let short = manifest(json!({
            "resize": {"shorter_side": 256, "crop": 224}, "full_decode": true,
            "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
        }));
        let list = manifest(json!({
            "width": 320, "height": 240, "resize": "stretch", "form": "list", "mean": [0, 0, 0], "std": [255, 255, 255],
        }));
        for (page, part) in [
            (
                &short,
                "resize to shorter side 256, crop 224, bilinear, then",
            ),
            (
                &short,
                "(pixel - [123.675,116.28,103.53]) / [58.395,57.12,57.375]",
            ),
            (&short, "JPEGs at full size (full_decode: true)"),
            (&short, "`forward` gets [n, 3, 224, 224], n from 1 to 4"),
            (&list, "resize to 320 x 240 (stretch, catmull_rom), then"),
            (
                &list,
                "JPEGs at reduced size (full_decode: false); answers differ slightly",
            ),
            (
                &list,
                "`forward` gets a list of n tensors [3, 240, 320], n from 1 to 4",
            ),
        ] {
            assert!(page.contains(part), "no {part} in:\n{page}");
        }
    }

    #[test]
    fn a_small_file_has_its_size_in_bytes() {
        let pointer = "tests/fixtures/artifacts/lfs-pointer.pt";
        let page = page(&report(pointer));
        assert!(page.contains(", not the file, 133 B"), "{page}");
    }

    #[test]
    fn a_wrong_file_is_named_with_what_to_do() {
        let report = report("tests/fixtures/artifacts/state-dict.pth");
        let page = page(&report);
        assert!(page.contains("state_dict"), "{page}");
        assert!(page.contains("\n    model.load_state_dict("), "{page}");
        let document = document("x", &report);
        assert_eq!(document["ok"], false);
        assert_eq!(document["artifacts"][0]["kind"], "state_dict");
        assert_eq!(document["artifacts"][0]["can_run"], false);
    }
}
