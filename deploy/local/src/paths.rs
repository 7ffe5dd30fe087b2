//! Paths: the checkout, the programs, libtorch, and a folder that every user of the machine can enter.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file that only a checkout of Darkroom has.
const LANDMARK: &str = "deploy/local/wheels/requirements.txt";

/// The root of the checkout: `DARKROOM_ROOT`, or the checkout around the working folder, or the one that
/// this program was built in.
///
/// # Errors
/// None of these is a checkout.
pub fn checkout() -> anyhow::Result<PathBuf> {
    if let Some(root) = std::env::var_os("DARKROOM_ROOT") {
        return Ok(root.into());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = here.ancestors().chain(built.ancestors());
    let found = above.find(|folder| folder.join(LANDMARK).is_file());
    found.map(Path::to_owned).context(
        "the working folder is not in a checkout of Darkroom; run inside one, or set DARKROOM_ROOT to its root",
    )
}

/// The folder of `darkroom-api`, `darkroom-worker` and the other programs: `DARKROOM_BIN_DIR`, or the
/// folder of the running program. So every cargo profile uses its own programs.
pub fn bin_dir() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("DARKROOM_BIN_DIR") {
        return Ok(folder.into());
    }
    let program = std::env::current_exe().context("finding the path of this program")?;
    let folder = program
        .parent()
        .context("the path of this program has no folder")?;
    // A test is one folder below the programs.
    Ok(if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    }
    .to_owned())
}

/// The folder of the libraries of libtorch, which `LIBTORCH` names or the setup installed. `None` if it is missing.
pub fn libtorch_lib() -> Option<PathBuf> {
    let root = match std::env::var_os("LIBTORCH") {
        Some(root) => PathBuf::from(root),
        None => checkout().ok()?.join(".local/libtorch"),
    };
    Some(root.join("lib")).filter(|lib| lib.is_dir())
}

/// `LD_LIBRARY_PATH` for the worker: libtorch, then the value that this process has.
pub fn ld_library_path() -> Option<String> {
    let libtorch = libtorch_lib()?.to_string_lossy().into_owned();
    match std::env::var("LD_LIBRARY_PATH") {
        Ok(inherited) if inherited.split(':').any(|folder| folder == libtorch) => Some(inherited),
        Ok(inherited) if !inherited.is_empty() => Some(format!("{libtorch}:{inherited}")),
        _ => Some(libtorch),
    }
}

/// A folder for files of Postgres, if its user cannot enter the checkout. Only used when this process runs as root.
pub(crate) fn shared_folder() -> PathBuf {
    PathBuf::from("/var/lib/darkroom-local")
}

pub(crate) fn create_shared_folder() -> anyhow::Result<PathBuf> {
    let folder = shared_folder();
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    make_enterable(&folder)?;
    Ok(folder)
}

/// Lets every user enter `folder`.
pub(crate) fn make_enterable(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}
