//! `darkroom models compile`: runs `compile.py` in the Python of the caller.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use clap::Args;
use jobs::manifest::Target;

use crate::{Ended, failure::Failure};

const SCRIPT: &str = include_str!("compile.py");

/// Compiles a model of torch.export for the CPU or GPU of this machine
///
/// Makes packages of AOTInductor in the folder of the model, checks them against eager PyTorch, prints times, and names them
/// in `artifacts` of model.json. A push then takes them along. A worker takes the package that fits its device, and the
/// `artifact` of the manifest if none fits.
///
/// Needs Python with torch 2.11, and a C++ compiler. A compilation takes one to ten minutes.
#[derive(Debug, Args)]
#[command(after_help = "\
The Python that it needs, on Debian and Ubuntu:
  sudo apt-get install python3-venv python3-dev g++
  python3 -m venv venv && venv/bin/pip install torch==2.11.0

What it compiles, in Python:
  batch = torch.export.Dim(\"batch\", min=1, max=64)
  exported = torch.export.export(model.eval(), (torch.randn(4, 3, 224, 224),), dynamic_shapes=({0: batch},))
  torch.export.save(exported, \"DIR/export.pt2\")

Then:
  darkroom models compile DIR --python venv/bin/python
  darkroom models push DIR")]
pub(crate) struct Compile {
    /// Folder of `model.json`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// File of `torch.export.save`, or a Python file whose `model()` returns the module [default: DIR/export.pt2]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Kind of device: `cpu-avx2`, `cpu-avx512`, `cuda-sm90`; may be repeated [default: the kinds of this CPU]
    #[arg(long = "target", value_name = "KIND")]
    targets: Vec<Target>,
    /// Python with torch
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
}

impl Compile {
    pub(crate) fn run(self) -> Result<Ended, Failure> {
        let script = Script::write().map_err(|error| {
            Failure::Usage(format!(
                "cannot write to the folder of temporary files: {error}"
            ))
        })?;
        let ended = self.command(&script.0).status();
        let ended = ended.map_err(|error| {
            let python = self.python.display();
            Failure::Usage(format!(
                "cannot start {python}: {error}; name one by --python"
            ))
        })?;
        outcome(ended)
    }

    fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(script).arg(&self.folder);
        if let Some(from) = &self.from {
            command.arg("--from").arg(from);
        }
        for target in &self.targets {
            command.arg("--target").arg(target.to_string());
        }
        command
    }
}

/// The script has written its own message.
fn outcome(ended: ExitStatus) -> Result<Ended, Failure> {
    if ended.success() {
        Ok(Ended::Well)
    } else {
        Err(Failure::Usage(
            "nothing was compiled; the message is above".into(),
        ))
    }
}

/// `compile.py` in a file: it starts itself again in other environments. The file is deleted when this value is dropped.
struct Script(PathBuf);

impl Script {
    fn write() -> io::Result<Self> {
        let name = format!("darkroom-compile-{}.py", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, SCRIPT)?;
        Ok(Self(path))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use jobs::manifest::Target;

    use super::{Compile, Script};

    #[test]
    fn the_script_gets_the_arguments_of_the_command() {
        let compile = Compile {
            folder: "resnet".into(),
            from: Some("resnet.py".into()),
            targets: vec![Target::CpuAvx2, Target::CudaSm(90)],
            python: PathBuf::from("venv/bin/python"),
        };
        let command = compile.command(Path::new("compile.py"));
        let words: Vec<_> = command
            .get_args()
            .filter_map(|word| word.to_str())
            .collect();
        let expected = "compile.py resnet --from resnet.py --target cpu-avx2 --target cuda-sm90";
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn the_script_is_deleted_afterwards() {
        let script = Script::write().expect("a folder for temporary files");
        let path = script.0.clone();
        assert!(path.exists());
        drop(script);
        assert!(!path.exists());
    }
}
