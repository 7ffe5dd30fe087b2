//! Loading an AOTInductor package onto a device (docs/adr/0024-aoti.md).

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use jobs::manifest::{Manifest, Target};
use serde::Deserialize;
use tch::Kind;

use super::{
    aoti::{self, CompiledModel},
    device::Device,
    forward_error::ForwardError,
    golden::Golden,
    module::Module,
    package_folder::PackageFolder,
    program::{Cast, Program, caught},
    targets::targets,
};

/// The format of `darkroom.json` that this worker knows.
const FORMAT: u32 = 1;

/// `darkroom.json`: what `darkroom models compile` wrote about a package.
#[derive(Debug, Deserialize)]
struct About {
    format: u32,
    /// Version of torch, `2.11`: its packed weights and its C interface fit no other.
    torch: String,
    target: String,
    method: String,
    batch_max: usize,
    golden: Golden,
}

/// Loads a package for forward batches of up to `batch_max` images. Up to `runners` passes run at the same time.
///
/// Compiled code checks neither its input nor its CPU. So a package is used only if `darkroom models compile` made it, for a
/// device like this one, and if it gives its golden outputs.
///
/// # Errors
/// The package is damaged, or it is for another device, method or libtorch, or it gives other outputs.
pub fn load_package(
    path: &Path,
    manifest: &Manifest,
    device: Device,
    batch_max: usize,
    runners: usize,
) -> Result<Program, ForwardError> {
    caught(|| {
        let folder = PackageFolder::beside(path).map_err(|error| cannot_unpack(&error))?;
        aoti::unpack(path, folder.path())?;
        let about = read_about(folder.path())?;
        about.check(manifest, &targets(device))?;
        let library = find_library(folder.path())?;
        let model = CompiledModel::load(&library, folder.path(), device.raw(), runners)?;
        // On a CPU the library stays in memory without its file. So a killed worker leaves no file, except while it loads one.
        let folder = Some(folder).filter(|_| device.is_gpu());
        let batch_max = batch_max.min(about.batch_max).max(1);
        let module = Module::Compiled {
            model,
            _folder: folder,
        };
        let program = Program::of(module, manifest, device, Kind::Float, Cast::Keep, batch_max)?;
        about.golden.check(&program)?;
        tracing::info!(
            target = about.target,
            "the compiled package gives its golden outputs"
        );
        Ok(program)
    })
}

impl About {
    fn check(&self, manifest: &Manifest, targets: &[Target]) -> Result<(), ForwardError> {
        let libtorch = aoti::libtorch_version();
        let is_of_libtorch = libtorch
            .strip_prefix(&self.torch)
            .is_some_and(|rest| rest.starts_with('.'));
        let fits = targets
            .iter()
            .any(|target| target.to_string() == self.target);
        let reason = if self.format != FORMAT {
            format!("its format is {}; this worker knows {FORMAT}", self.format)
        } else if !is_of_libtorch {
            let torch = &self.torch;
            format!("torch {torch} made it; this worker has {libtorch}")
        } else if !fits {
            let own: Vec<_> = targets.iter().map(Target::to_string).collect();
            let (target, own) = (&self.target, own.join(", "));
            format!("it is for {target}; this device is {own}")
        } else if self.method != manifest.method {
            let (made, wanted) = (&self.method, &manifest.method);
            format!("it has the method `{made}`; the manifest names `{wanted}`")
        } else {
            return Ok(());
        };
        Err(unusable(&reason))
    }
}

fn read_about(folder: &Path) -> Result<About, ForwardError> {
    let file = File::open(folder.join("darkroom.json"));
    let file = file.map_err(|_| unusable("`darkroom models compile` did not make it"))?;
    serde_json::from_reader(BufReader::new(file)).map_err(|error| unusable(&error.to_string()))
}

/// The one shared library of the package.
fn find_library(folder: &Path) -> Result<PathBuf, ForwardError> {
    let files = std::fs::read_dir(folder)
        .map_err(|error| cannot_unpack(&error))?
        .flatten();
    let mut files = files.map(|file| file.path());
    let library = files.find(|path| path.extension().is_some_and(|kind| kind == "so"));
    library.ok_or_else(|| unusable("there is no compiled library in it"))
}

fn unusable(reason: &str) -> ForwardError {
    ForwardError::Failed(format!("the package cannot be used: {reason}"))
}

fn cannot_unpack(error: &io::Error) -> ForwardError {
    ForwardError::Failed(format!("cannot unpack the package: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::PathBuf;

    use jobs::models::ModelFolder;

    use super::*;
    use crate::torch::{DeviceChoice, Output, prepare_thread};

    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/aoti");
    const PACKAGE: &str = "cpu-avx2.pt2";
    /// What two ways of adding up the same numbers may differ by.
    const DIFFERENCE_MAX: f32 = 1e-5;

    fn fixture(file: &str) -> PathBuf {
        Path::new(FIXTURE).join(file)
    }

    fn manifest() -> Manifest {
        ModelFolder::read(Path::new(FIXTURE)).unwrap().manifest
    }

    fn cpu() -> Device {
        Device::open(DeviceChoice::Cpu).unwrap()
    }

    fn load(path: &Path, manifest: &Manifest) -> Result<Program, ForwardError> {
        load_package(path, manifest, cpu(), 8, 2)
    }

    /// The package of the fixture. `None` on a CPU that cannot run it.
    fn program() -> Option<Program> {
        if targets(cpu()).contains(&Target::CpuAvx2) {
            return Some(load(&fixture(PACKAGE), &manifest()).unwrap());
        }
        eprintln!("this CPU has no AVX2: this test tests nothing");
        None
    }

    /// The images of `make_aoti.py`.
    fn images(program: &Program) -> Vec<Vec<u8>> {
        let image = |number: usize| -> Vec<u8> {
            let pixels = (0..program.image_bytes()).map(|at| at * (7 + number) + number * number);
            pixels.map(|value| (value % 256) as u8).collect()
        };
        (0..8).map(image).collect()
    }

    fn assert_eager(outputs: &[Output], eager: &[Vec<f32>]) {
        assert_eq!(outputs.len(), eager.len());
        for (output, eager) in outputs.iter().zip(eager) {
            assert_eq!(output.values.len(), eager.len());
            for (value, expected) in output.values.iter().zip(eager) {
                let difference = (value - expected).abs();
                assert!(difference <= DIFFERENCE_MAX, "{value} {expected}");
            }
        }
    }

    fn eager() -> Vec<Vec<f32>> {
        serde_json::from_slice(&std::fs::read(fixture("eager.json")).unwrap()).unwrap()
    }

    #[test]
    fn a_package_gives_the_outputs_of_python_in_every_size_of_a_batch() {
        let Some(program) = program() else { return };
        let (images, eager) = (images(&program), eager());
        for size in [1, 3, 8] {
            let batch: Vec<&[u8]> = images[..size].iter().map(Vec::as_slice).collect();
            assert_eager(&program.forward(&batch).unwrap(), &eager[..size]);
        }
    }

    #[test]
    fn passes_of_several_threads_do_not_mix() {
        let Some(program) = program() else { return };
        let (images, eager) = (images(&program), eager());
        let run = |number: usize| {
            prepare_thread(number);
            for pass in 0..200 {
                let at = (number * 3 + pass) % images.len();
                let outputs = program.forward(&[&images[at]]).unwrap();
                assert_eager(&outputs, &eager[at..=at]);
            }
        };
        std::thread::scope(|scope| {
            // More threads than runners.
            (0..3).for_each(|number| drop(scope.spawn(move || run(number))));
        });
    }

    #[test]
    fn a_package_leaves_no_files_while_it_is_loaded_and_no_memory_afterwards() {
        if program().is_none() {
            return;
        }
        let cache = std::env::temp_dir().join(format!("packages-{:x}", rand::random::<u64>()));
        std::fs::create_dir(&cache).unwrap();
        let path = cache.join("package");
        std::fs::copy(fixture(PACKAGE), &path).unwrap();
        let program = load(&path, &manifest());
        let files = std::fs::read_dir(&cache).unwrap().count();
        std::fs::remove_dir_all(&cache).unwrap();
        assert_eq!(files, 1, "the package itself");
        let is_mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.contains(cache.to_str().unwrap())
        };
        assert!(is_mapped());
        drop(program.unwrap());
        assert!(!is_mapped());
    }

    #[test]
    fn a_package_that_cannot_be_right_is_refused_with_a_reason() {
        let refusal =
            |path: &Path, manifest: &Manifest| load(path, manifest).unwrap_err().to_string();
        let scratch = std::env::temp_dir().join(format!("packages-{:x}", rand::random::<u64>()));
        std::fs::create_dir(&scratch).unwrap();
        let half = scratch.join("half");
        let bytes = std::fs::read(fixture(PACKAGE)).unwrap();
        std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
        let reason = refusal(&half, &manifest());
        std::fs::remove_dir_all(&scratch).unwrap();
        assert!(reason.contains("zip"), "{reason}");

        let reason = refusal(&fixture("model.pt"), &manifest());
        assert!(
            reason.contains("`darkroom models compile` did not make it"),
            "{reason}"
        );
        if program().is_none() {
            return;
        }
        let mut other = manifest();
        other.input.mean = [0.0; 3];
        let reason = refusal(&fixture(PACKAGE), &other);
        assert!(reason.contains("differ from the golden ones"), "{reason}");
        other.method = "embed".into();
        let reason = refusal(&fixture(PACKAGE), &other);
        assert!(reason.contains("the manifest names `embed`"), "{reason}");
    }

    #[test]
    fn a_package_of_another_torch_or_device_is_refused_before_it_is_loaded() {
        let about = |torch: &str, target: &str| -> About {
            serde_json::from_value(serde_json::json!({
                "format": 1, "torch": torch, "target": target, "method": "forward", "batch_max": 8,
                "golden": {"shape": [1], "at": [0], "values": [[1.0]]}
            }))
            .unwrap()
        };
        let own = [Target::CpuAvx2, Target::Cpu];
        let check = |torch, target| about(torch, target).check(&manifest(), &own);
        assert_eq!(check("2.11", "cpu-avx2"), Ok(()));
        let reason = check("2.1", "cpu-avx2").unwrap_err().to_string();
        assert!(reason.contains("torch 2.1 made it"), "{reason}");
        let reason = check("2.11", "cpu-avx512").unwrap_err().to_string();
        assert!(reason.contains("this device is cpu-avx2, cpu"), "{reason}");
    }
}
