//! What is in a model folder, right or wrong: for `darkroom models check`, and for the checks of a push.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde_json::Value;

use super::artifact::{self, ArtifactKind, SIDES};
use crate::manifest::{Manifest, Mistake, ReadError, Warning, read_labels};

/// Longest manifest or file of labels that is read.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Files that are looked at in a folder without a manifest.
const FILES_MAX: usize = 20;
/// Methods that are named when the right one is missing.
const METHODS_MAX: usize = 10;
/// Larger artifacts do not fit into what workers keep loaded by default (`--loaded-bytes-max`).
const LOADED_BYTES_MAX: u64 = 4 << 30;

/// What [`FolderReport::of`] found in a folder.
#[derive(Debug, Default)]
pub struct FolderReport {
    /// `None`: there is no manifest without mistakes.
    pub manifest: Option<Manifest>,
    pub artifacts: Vec<ArtifactReport>,
    pub labels: Option<LabelsReport>,
    /// A folder with mistakes cannot be pushed.
    pub mistakes: Vec<Mistake>,
    pub warnings: Vec<Mistake>,
}

#[derive(Debug)]
pub struct ArtifactReport {
    /// The field of the manifest that names the file; empty if there is no manifest.
    pub field: String,
    pub file: String,
    pub bytes: u64,
    pub kind: ArtifactKind,
}

#[derive(Debug)]
pub struct LabelsReport {
    pub file: String,
    pub count: usize,
}

impl FolderReport {
    /// Looks at everything in the folder. A file that cannot be read is a mistake too.
    pub fn of(folder: &Path) -> Self {
        let mut report = Self::default();
        if !folder.is_dir() {
            report.single_file(folder);
            return report;
        }
        let text = match read_text(&folder.join("model.json")) {
            Ok(text) => text,
            Err(error) => {
                report.mistake("model.json", format!("cannot be read: {error}"));
                report.loose_files(folder);
                return report;
            }
        };
        match read_manifest(&text) {
            Ok(manifest) => {
                let warnings = manifest.warnings().into_iter().map(warning);
                report.warnings.extend(warnings);
                report.manifest = Some(manifest);
            }
            Err(mistakes) => report.mistakes = mistakes,
        }
        // The names of the files are taken from the JSON, so that a mistake elsewhere does not hide a wrong file.
        let without_mark = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let json: Value = serde_json::from_slice(without_mark).unwrap_or_default();
        let method = json["method"].as_str().unwrap_or("forward");
        let sides = sides_of(&json["input"]);
        for (field, file) in artifacts_of(&json) {
            report.artifact(folder, field, &file, method, sides);
        }
        if let Some(file) = json["labels"].as_str() {
            report.labels(folder, file);
        }
        report
    }

    fn mistake(&mut self, field: &str, detail: impl Into<String>) {
        self.mistakes.push(Mistake {
            field: field.into(),
            detail: detail.into(),
        });
    }

    fn single_file(&mut self, path: &Path) {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        self.mistake(
            "model.json",
            "is missing: a model is a folder with `model.json` and the files that it names",
        );
        match artifact_of(path, String::new(), &name) {
            Ok(artifact) => self.artifacts.push(artifact),
            Err(error) => self.mistake(&name, format!("cannot be read: {error}")),
        }
    }

    /// Tells what the files of a folder without a manifest are.
    fn loose_files(&mut self, folder: &Path) {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names.truncate(FILES_MAX);
        let artifacts = names.iter().filter_map(|name| {
            let artifact = artifact_of(&folder.join(name), String::new(), name).ok()?;
            let is_other = matches!(
                artifact.kind,
                ArtifactKind::Text | ArtifactKind::Folder { .. }
            );
            (!is_other).then_some(artifact)
        });
        self.artifacts = artifacts.collect();
    }

    fn artifact(
        &mut self,
        folder: &Path,
        field: String,
        file: &str,
        method: &str,
        sides: Option<(u32, u32)>,
    ) {
        if !is_beside(file) {
            return self.mistake(&field, format!("`{file}` leads out of the folder"));
        }
        let path = folder.join(file);
        let found = artifact_of(&path, field.clone(), file)
            .and_then(|artifact| Ok((artifact_mistake(&path, file, method, sides)?, artifact)));
        match found {
            Ok((mistake, artifact)) => {
                if let Some(detail) = mistake {
                    self.mistake(&field, detail);
                }
                if artifact.bytes > LOADED_BYTES_MAX {
                    let detail = "is larger than 4 GiB: workers need a larger `--loaded-bytes-max`";
                    self.warnings.push(Mistake {
                        field,
                        detail: detail.into(),
                    });
                }
                self.artifacts.push(artifact);
            }
            Err(error) => self.mistake(&field, format!("`{file}` cannot be read: {error}")),
        }
    }

    fn labels(&mut self, folder: &Path, file: &str) {
        if !is_beside(file) {
            return self.mistake("labels", format!("`{file}` leads out of the folder"));
        }
        match read_text(&folder.join(file)).map(|text| read_labels(&text)) {
            Ok(Ok(labels)) => {
                let found = self.manifest.as_ref();
                let found = found.and_then(|manifest| manifest.labels_warning(&labels));
                self.warnings.extend(found.map(warning));
                self.labels = Some(LabelsReport {
                    file: file.to_owned(),
                    count: labels.len(),
                });
            }
            Ok(Err(mistakes)) => self.mistakes.extend(mistakes),
            Err(error) => self.mistake("labels", format!("`{file}` cannot be read: {error}")),
        }
    }
}

fn warning(one: Warning) -> Mistake {
    Mistake {
        field: one.field,
        detail: one.detail,
    }
}

/// What is wrong with an artifact, in words for the person who pushes it; `None` if workers can load a file of its kind. Reads
/// the whole file.
///
/// # Errors
/// The file cannot be read.
pub(super) fn artifact_mistake(
    path: &Path,
    file: &str,
    method: &str,
    sides: Option<(u32, u32)>,
) -> io::Result<Option<String>> {
    let mut kind = artifact::recognize_path(path)?;
    if kind.can_run() {
        let bytes = std::fs::metadata(path)?.len();
        let damage = artifact::find_damage(File::open(path)?, bytes)?;
        kind = damage.unwrap_or(kind);
    }
    let wrong = kind_mistake(&kind, file, method, sides);
    Ok(wrong.map(|wrong| format!("{file}: {wrong}")))
}

/// What is wrong with a file of this kind as the artifact of a manifest with this `method`. `sides`: height and width of the
/// input, if the manifest has them; recipes then name them.
pub fn kind_mistake(
    kind: &ArtifactKind,
    file: &str,
    method: &str,
    sides: Option<(u32, u32)>,
) -> Option<String> {
    if !kind.can_run() {
        let mut todo = kind.what_to_do(file);
        if let Some((height, width)) = sides {
            todo = todo.replace(SIDES, &format!("{height}, {width}"));
        }
        return Some(format!("{}. {todo}", kind.what_it_is()));
    }
    let ArtifactKind::TorchScript(code) = kind else {
        return None;
    };
    let methods = code.methods.as_ref()?;
    if methods.contains(method) {
        return None;
    }
    let methods: Vec<_> = methods
        .iter()
        .take(METHODS_MAX)
        .map(|name| format!("`{name}`"))
        .collect();
    Some(format!(
        "TorchScript without the method `{method}`; it has {}",
        methods.join(", ")
    ))
}

fn artifact_of(path: &Path, field: String, file: &str) -> io::Result<ArtifactReport> {
    Ok(ArtifactReport {
        field,
        file: file.to_owned(),
        bytes: std::fs::metadata(path)?.len(),
        kind: artifact::recognize_path(path)?,
    })
}

/// Height and width of the input in a manifest that may have mistakes. A side that is left out is the side of the crop.
fn sides_of(input: &Value) -> Option<(u32, u32)> {
    let side = |name: &str| {
        let given = input.get(name).unwrap_or(&input["resize"]["crop"]);
        let side = u32::try_from(given.as_u64()?).ok()?;
        (side > 0).then_some(side)
    };
    Some((side("height")?, side("width")?))
}

/// The fields that name artifacts, with the names of the files.
fn artifacts_of(manifest: &Value) -> Vec<(String, String)> {
    let of = |field: String, file: &Value| Some((field, file.as_str()?.to_owned()));
    let further = manifest["artifacts"].as_object().into_iter().flatten();
    let further = further.map(|(key, file)| of(format!("artifacts.{key}"), file));
    let first = of("artifact".into(), &manifest["artifact"]);
    std::iter::once(first).chain(further).flatten().collect()
}

/// Whether the name is that of a file beside the manifest.
fn is_beside(file: &str) -> bool {
    !file.contains('/') && !file.starts_with('.')
}

fn read_manifest(text: &[u8]) -> Result<Manifest, Vec<Mistake>> {
    Manifest::read(text).map_err(|error| match error {
        ReadError::Mistakes(mistakes) => mistakes,
        error => vec![Mistake {
            field: "model.json".into(),
            detail: error.to_string(),
        }],
    })
}

fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        let why = format!("it has more than {TEXT_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::FolderReport;
    use crate::models::ModelFolder;

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
    }

    /// A folder of the system for temporary files, which the test deletes at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, manifest: &serde_json::Value) -> Self {
            let path =
                std::env::temp_dir().join(format!("darkroom-check-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder");
            std::fs::write(path.join("model.json"), manifest.to_string()).expect("a file");
            Self(path)
        }

        fn add(&self, fixture: &str, name: &str) {
            let from = fixtures().join("artifacts").join(fixture);
            std::fs::copy(from, self.0.join(name)).expect("a fixture");
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mistakes(report: &FolderReport) -> Vec<String> {
        report.mistakes.iter().map(ToString::to_string).collect()
    }

    fn input() -> serde_json::Value {
        json!({"width": 4, "height": 4, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255]})
    }

    #[test]
    fn a_folder_without_mistakes_is_described() {
        let report = FolderReport::of(&fixtures().join("tasks/bright-box"));
        assert_eq!(mistakes(&report), [""; 0]);
        assert_eq!(report.artifacts[0].kind.code(), "torchscript");
        assert_eq!(report.labels.expect("labels").count, 2);
        assert_eq!(report.manifest.expect("a manifest").name, "bright-box");
    }

    #[test]
    fn a_wrong_file_and_a_wrong_manifest_are_told_together() {
        let mut wrong = input();
        wrong["std"] = json!([255, 255, 0]);
        let manifest = json!({"name": "net", "task": "raw", "artifact": "net.pth", "input": wrong});
        let folder = Folder::new("both", &manifest);
        folder.add("state-dict.pth", "net.pth");
        let found = mistakes(&FolderReport::of(&folder.0));
        assert!(
            found.iter().any(|one| one.starts_with("input.std: ")),
            "{found:?}"
        );
        assert!(
            found
                .iter()
                .any(|one| one.starts_with("artifact: net.pth: a state_dict")),
            "{found:?}"
        );
    }

    #[test]
    fn a_method_that_the_artifact_lacks_is_a_mistake() {
        let manifest = json!({"name": "net", "task": "raw", "artifact": "net.pt", "method": "classes", "input": input()});
        let folder = Folder::new("method", &manifest);
        folder.add("torchscript.pt", "net.pt");
        let found = mistakes(&FolderReport::of(&folder.0));
        assert_eq!(
            found,
            [
                "artifact: net.pt: TorchScript without the method `classes`; it has `embed`, `forward`"
            ]
        );
    }

    #[test]
    fn labels_without_the_background_of_torchvision_are_a_warning_of_the_check_and_of_the_push() {
        let mut input = input();
        input["form"] = json!("list");
        let boxes = json!({"columns": ["x1", "y1", "x2", "y2", "score", "class"], "fields": ["boxes", "scores", "labels"]});
        let manifest = json!({"name": "net", "task": "detect", "artifact": "net.pt", "labels": "labels.txt", "input": input,
                              "output": {"path": "1", "boxes": boxes}});
        let folder = Folder::new("background", &manifest);
        folder.add("torchscript.pt", "net.pt");
        let warnings = |labels: &str| {
            std::fs::write(folder.0.join("labels.txt"), labels).expect("a file");
            let report = FolderReport::of(&folder.0);
            assert_eq!(mistakes(&report), [""; 0]);
            let checked: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
            let pushed = ModelFolder::read(&folder.0).expect("a model").warnings();
            let pushed: Vec<_> = pushed.iter().map(ToString::to_string).collect();
            assert_eq!(checked, pushed);
            checked
        };
        assert_eq!(warnings("__background__\ncat\n"), [""; 0]);
        let found = warnings("cat\ndog\n");
        assert!(found[0].starts_with("labels: index 0"), "{found:?}");
    }

    #[test]
    fn a_file_instead_of_a_folder_is_recognized() {
        let report = FolderReport::of(&fixtures().join("artifacts/model.onnx"));
        assert_eq!(report.artifacts[0].kind.code(), "onnx");
        assert!(mistakes(&report)[0].contains("a model is a folder"));
        let loose = FolderReport::of(&fixtures().join("artifacts"));
        assert!(!loose.artifacts.is_empty());
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_not_opened() {
        let manifest = json!({"name": "net", "task": "classify", "artifact": "../net.pt", "labels": "/etc/hostname", "input": input()});
        let folder = Folder::new("outside", &manifest);
        let found = mistakes(&FolderReport::of(&folder.0));
        assert_eq!(
            found,
            [
                "artifact: `../net.pt` leads out of the folder",
                "labels: `/etc/hostname` leads out of the folder"
            ]
        );
    }
}
