//! Where things are: the checkout, its programs, and a place outside for what must not be inside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file that only a checkout of Darkroom has.
const LANDMARK: &str = "deploy/local/wheels/requirements.txt";

/// The root of the checkout: `DARKROOM_ROOT`, else above the working folder, else where this
/// program was built.
pub fn checkout() -> anyhow::Result<PathBuf> {
    if let Some(root) = std::env::var_os("DARKROOM_ROOT") {
        return Ok(root.into());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = here.ancestors().chain(built.ancestors());
    let found = above.find(|folder| folder.join(LANDMARK).is_file());
    found.map(Path::to_owned).context(
        "no checkout of Darkroom here or above; run inside one, or set DARKROOM_ROOT to its root",
    )
}

/// The folder of `darkroom-api`, `darkroom-worker` and the others: `DARKROOM_BIN_DIR`, else that
/// of the program that runs (tests run one folder below).
pub fn bin_dir() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("DARKROOM_BIN_DIR") {
        return Ok(folder.into());
    }
    let program = std::env::current_exe().context("finding our own program")?;
    let folder = program
        .parent()
        .context("our own program is in no folder")?;
    Ok(if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    }
    .to_owned())
}

/// The folder of libtorch's libraries, when the checkout has (or `LIBTORCH` names) one.
pub fn libtorch_lib() -> Option<PathBuf> {
    let root = match std::env::var_os("LIBTORCH") {
        Some(root) => PathBuf::from(root),
        None => checkout().ok()?.join(".local/libtorch"),
    };
    Some(root.join("lib")).filter(|lib| lib.is_dir())
}

/// `LD_LIBRARY_PATH` for the worker: libtorch, then whatever the caller had.
pub fn ld_library_path() -> Option<String> {
    let libtorch = libtorch_lib()?.to_string_lossy().into_owned();
    match std::env::var("LD_LIBRARY_PATH") {
        Ok(theirs) if theirs.split(':').any(|folder| folder == libtorch) => Some(theirs),
        Ok(theirs) if !theirs.is_empty() => Some(format!("{libtorch}:{theirs}")),
        _ => Some(libtorch),
    }
}

/// For what Postgres' user must reach when it cannot enter the checkout (we are root then).
pub(crate) fn outside() -> PathBuf {
    PathBuf::from("/var/lib/darkroom-local")
}

pub(crate) fn make_outside() -> anyhow::Result<PathBuf> {
    let outside = outside();
    fs::create_dir_all(&outside).with_context(|| format!("making {}", outside.display()))?;
    enterable(&outside)?;
    Ok(outside)
}

pub(crate) fn enterable(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}
