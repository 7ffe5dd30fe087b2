//! Paths below the data folder (`.local` unless said otherwise).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) data: PathBuf,
}

impl Layout {
    /// `chosen`, else `.local` in the checkout. Made when missing.
    pub(super) fn open(chosen: Option<&Path>) -> anyhow::Result<Self> {
        let data = match chosen {
            Some(data) => std::path::absolute(data)?,
            None => crate::checkout()?.join(".local"),
        };
        for folder in [data.clone(), data.join("pids"), data.join("logs")] {
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        Ok(Self { data })
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.data.join("postgres")
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.data.join("objects")
    }

    pub(super) fn model_cache(&self) -> PathBuf {
        self.data.join("model-cache")
    }

    pub(super) fn env(&self) -> PathBuf {
        self.data.join("env")
    }

    pub(super) fn memory(&self) -> PathBuf {
        self.data.join("memory.json")
    }

    pub(super) fn pid(&self, name: &str) -> PathBuf {
        self.data.join("pids").join(name)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.data.join("logs").join(format!("{name}.log"))
    }

    /// Held by the one process that supervises this folder's stack.
    pub(super) fn lock(&self) -> PathBuf {
        self.data.join("supervisor.lock")
    }

    /// Where the supervisor listens. A socket's path is at most 107 bytes long: a data folder too
    /// deep for that gets its socket in a private folder of the user's.
    pub(super) fn socket(&self) -> anyhow::Result<PathBuf> {
        let inside = self.data.join("supervisor.sock");
        if inside.as_os_str().len() < 100 {
            return Ok(inside);
        }
        let user = nix::unistd::Uid::effective();
        let folder = PathBuf::from(format!("/tmp/darkroom-local-{user}"));
        fs::create_dir_all(&folder)?;
        // Fails when somebody else made the folder first, as it must.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("{} is not ours; use a shorter --data", folder.display()))?;
        let name = hex::encode(Sha256::digest(self.data.as_os_str().as_encoded_bytes()));
        Ok(folder.join(&name[..16]))
    }

    /// What a wipe removes: all that a stack made, nothing that the setup brought.
    pub(super) fn made_by_a_stack(&self) -> Vec<PathBuf> {
        let names = [
            "postgres",
            "objects",
            "model-cache",
            "pids",
            "logs",
            "env",
            "memory.json",
        ];
        names.iter().map(|name| self.data.join(name)).collect()
    }
}

/// Writes a file that only its owner reads, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    let folder = path.parent().context("a file is in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(writing)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(writing)?;
    file.persist(path).with_context(writing)?; // temporary files are born with mode 0600
    Ok(())
}
