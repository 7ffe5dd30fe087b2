use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use crate::alter::{Numbers, alter};

/// Larger seeds are not altered: most changes would hit pixels, and each run would take long.
const ALTERED_BYTES_MAX: usize = 16 << 10;

/// A test ends after so many findings.
const FINDINGS_MAX: usize = 10;

/// Calls a fuzz target with every seed, then with `copies` altered copies of seeds, which are equal in every run.
///
/// Seeds are the files in `folders` and below, whose names end in `extension`. Folders are relative to the root of the
/// repository.
///
/// # Panics
/// The target panicked, or there are no seeds. The message names the seeds, and files with the inputs.
pub fn smoke(target: fn(&[u8]), folders: &[&str], extension: &str, copies: usize) {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut paths = Vec::new();
    for folder in folders {
        list(&root.join(folder), extension, &mut paths);
    }
    paths.sort();
    let seeds: Vec<_> = paths.iter().map(|path| (path, read(path))).collect();
    let small = |(_, seed): &&(_, Vec<u8>)| seed.len() <= ALTERED_BYTES_MAX;
    let small: Vec<_> = seeds.iter().filter(small).collect();
    assert!(!small.is_empty(), "{folders:?} have no seeds");
    let mut findings = Vec::new();
    for (path, seed) in &seeds {
        call(target, seed, &name(path), &mut findings);
    }
    let mut numbers = Numbers(1);
    for number in 0..copies {
        let (path, seed) = small[number % small.len()];
        let (_, other) = small[numbers.below(small.len())];
        let copy = alter(seed, other, &mut numbers);
        let name = format!("copy-{number}-of-{}", name(path));
        call(target, &copy, &name, &mut findings);
        if findings.len() >= FINDINGS_MAX {
            break;
        }
    }
    assert!(findings.is_empty(), "findings:\n{}", findings.join("\n"));
}

/// Calls the target. If it panics, the input is written to a file, and the file is a finding.
fn call(target: fn(&[u8]), input: &[u8], name: &str, findings: &mut Vec<String>) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let file = std::env::temp_dir().join(format!("darkroom-finding-{name}"));
        findings.push(match fs::write(&file, input) {
            Ok(()) => file.display().to_string(),
            Err(error) => format!("{name}, which cannot be written: {error}"),
        });
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn list(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            list(&path, extension, into);
        } else if path.to_string_lossy().ends_with(extension) {
            into.push(path);
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
