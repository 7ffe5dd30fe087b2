//! The user that Postgres runs as: it refuses root.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use nix::unistd::{Gid, Uid, User, chown};

/// Another user than ours, to be used when we are root.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// `None` when we are an ordinary user and so need no other.
    pub(crate) fn unless_ordinary() -> anyhow::Result<Option<Self>> {
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
            "Postgres refuses to run as root and there is neither a user postgres nor nobody; \
             make one with `useradd --system postgres`"
        )
    }

    /// Makes `command` run as this user, in a folder that it may enter.
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

    pub(crate) fn own(&self, path: &Path) -> anyhow::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("giving {} to the user {}", path.display(), self.name))
    }

    /// Whether this user can reach `folder` through all folders above it. Asked by trying: rights
    /// come from modes, lists and mounts, and the kernel knows them all.
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
