//! Paths below the data folder, which is `.local` unless `--data` names another.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::env_file::quoted;

/// The data folder of a stack that was started without `--data`, in the checkout.
const DEFAULT_FOLDER: &str = ".local";

/// The data folder of one stack, and the paths in it.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) data: PathBuf,
}

impl Layout {
    /// Takes `chosen`, or `.local` in the checkout. Creates the folder if it is missing.
    pub(super) fn open(chosen: Option<&Path>) -> anyhow::Result<Self> {
        let data = match chosen {
            Some(data) => std::path::absolute(data)?,
            None => crate::checkout()?.join(DEFAULT_FOLDER),
        };
        for folder in [data.clone(), data.join("pids"), data.join("logs")] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        Ok(Self { data })
    }

    /// The command line of a script of `deploy/local` for this stack. It names the data folder, unless that is the default one.
    pub(super) fn command(&self, script: &str) -> String {
        let default = crate::checkout().map(|checkout| checkout.join(DEFAULT_FOLDER));
        if default.is_ok_and(|default| default == self.data) {
            return format!("./deploy/local/{script}");
        }
        let data = quoted(&self.data.to_string_lossy());
        format!("./deploy/local/{script} --data {data}")
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

    pub(super) fn saved_state(&self) -> PathBuf {
        self.data.join("memory.json")
    }

    pub(super) fn pid(&self, name: &str) -> PathBuf {
        self.data.join("pids").join(name)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.data.join("logs").join(format!("{name}.log"))
    }

    /// Lock file of the supervisor: a data folder has at most one.
    pub(super) fn lock(&self) -> PathBuf {
        self.data.join("supervisor.lock")
    }

    /// Socket of the supervisor. The path of a socket has at most 107 bytes. If the data folder has a
    /// longer path, the socket is in a private folder of the user.
    pub(super) fn socket(&self) -> anyhow::Result<PathBuf> {
        let inside = self.data.join("supervisor.sock");
        if inside.as_os_str().len() < 100 {
            return Ok(inside);
        }
        let user = nix::unistd::Uid::effective();
        let folder = PathBuf::from(format!("/tmp/darkroom-local-{user}"));
        fs::create_dir_all(&folder)?;
        // Fails if the folder belongs to another user, who could read what passes through the socket.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).with_context(|| {
            format!(
                "{} belongs to another user; use a shorter --data",
                folder.display()
            )
        })?;
        let name = hex::encode(Sha256::digest(self.data.as_os_str().as_encoded_bytes()));
        Ok(folder.join(&name[..16]))
    }

    /// Paths that a wipe removes: everything that a stack created, nothing that the setup installed.
    pub(super) fn created_by_stack(&self) -> Vec<PathBuf> {
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

/// Replaces a file atomically. Only its owner can read the file.
pub(super) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    let folder = path.parent().context("a file is in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(writing)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(writing)?;
    file.persist(path).with_context(writing)?; // a temporary file has mode 0600
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn layout(data: impl Into<PathBuf>) -> Layout {
        Layout { data: data.into() }
    }

    #[test]
    fn a_command_names_the_data_folder_unless_it_is_the_default_one() {
        let default = layout(crate::checkout().unwrap().join(".local"));
        assert_eq!(default.command("down"), "./deploy/local/down");
        let other = layout("/srv/two stacks");
        let down = "./deploy/local/down --data '/srv/two stacks'";
        assert_eq!(other.command("down"), down);
    }
}
