//! The user account that Postgres runs as: Postgres refuses to run as root.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use nix::unistd::{Gid, Uid, User, chown};

/// The user account of the Postgres processes, if this process runs as root.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// Finds the account `postgres` or `nobody`. `None` if this process does not run as root: then Postgres runs as its user.
    pub(crate) fn for_root() -> anyhow::Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("looking for a user for Postgres")? {
                return Ok(Some(Self {
                    name: user.name,
                    uid: user.uid,
                    gid: user.gid,
                }));
            }
        }
        anyhow::bail!(
            "Postgres refuses to run as root, and there is neither a user postgres nor nobody; \
             create one with `useradd --system postgres`"
        )
    }

    /// Makes `command` run as this user, in a folder that the user may enter.
    pub(crate) fn apply(&self, command: &mut Command) {
        command
            .uid(self.uid.as_raw())
            .gid(self.gid.as_raw())
            .current_dir("/");
        command
            .env("HOME", "/")
            .env("USER", &self.name)
            .env("LOGNAME", &self.name);
    }

    /// Makes this user the owner of `path`.
    pub(crate) fn own(&self, path: &Path) -> anyhow::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("giving {} to the user {}", path.display(), self.name))
    }

    /// Whether this user can enter `folder`. A shell tries it, because modes, access lists and mounts of
    /// all folders above decide together.
    pub(crate) fn can_enter(&self, folder: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "cd \"$1\"", "sh"]).arg(folder);
        self.apply(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}
