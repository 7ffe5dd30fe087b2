//! The files of a cluster: where they are, how they are made, what they remember.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::NAME;
use super::binaries::Binaries;
use crate::account::Account;
use crate::{places, ports, secret};

/// Kept inside the cluster, so that both go away together.
const REMEMBERED: &str = "darkroom-local.json";

/// A cluster that exists.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) data: PathBuf,
    pub(super) account: Option<Account>,
}

/// What stays the same over restarts, so that URLs stay valid.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) port: u16,
    pub(super) password: String,
}

impl Cluster {
    /// The cluster for `wanted`, made when missing.
    pub(super) async fn open(
        wanted: &Path,
        binaries: &Binaries,
        account: Option<Account>,
    ) -> anyhow::Result<Self> {
        let data = place(wanted, account.as_ref())?;
        let cluster = Self { data, account };
        match fs::read_to_string(cluster.data.join("PG_VERSION")) {
            Ok(version) => {
                let ours = binaries.major_version()?;
                if version.trim() != ours {
                    bail!(
                        "the cluster in {} was made by PostgreSQL {}, these programs are {ours}; \
                         use the ones it was made by, another --data, or \
                         ./deploy/local/down --wipe",
                        cluster.data.display(),
                        version.trim()
                    );
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                cluster
                    .create(binaries)
                    .await
                    .context("making a Postgres cluster")?;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", cluster.data.display()));
            }
        }
        Ok(cluster)
    }

    /// Runs initdb beside the final place and renames: half a cluster is never taken for one.
    async fn create(&self, binaries: &Binaries) -> anyhow::Result<()> {
        let fresh = self.data.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        let remembered = Remembered {
            port: ports::free_port()?,
            password: secret::hex(16),
        };
        let password_file = fresh.with_extension("password");
        self.write_secret(&password_file, &remembered.password)?;
        if let Some(account) = &self.account {
            account.own(&fresh)?;
        }
        let log = fresh.with_extension("initdb.log");
        let initdb = binaries
            .program("initdb")
            .args([
                "--username",
                NAME,
                "--auth-local=scram-sha-256",
                "--auth-host=scram-sha-256",
            ])
            .args(["--data-checksums", "--locale=C", "--encoding=UTF8"])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("--pgdata")
            .arg(&fresh)
            .run_as(self.account.as_ref())
            .spawn(&log)?;
        let ended = initdb.wait_for(Duration::from_mins(2)).await;
        let _ = fs::remove_file(&password_file);
        if !ended.is_some_and(|status| status.success()) {
            bail!("initdb failed; it said:\n{}", initdb.log());
        }
        let _ = fs::remove_file(&log);
        Self {
            data: fresh.clone(),
            account: self.account.clone(),
        }
        .remember(&remembered)?;
        if self.data.is_dir() {
            fs::remove_dir(&self.data).context("the folder is neither empty nor a cluster")?;
        }
        fs::rename(&fresh, &self.data)?;
        Ok(())
    }

    pub(super) fn remembered(&self) -> anyhow::Result<Remembered> {
        let path = self.data.join(REMEMBERED);
        let text = fs::read(&path).with_context(|| {
            format!(
                "reading {}: was this cluster made by darkroom-local?",
                path.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
    }

    pub(super) fn remember(&self, remembered: &Remembered) -> anyhow::Result<()> {
        let text = serde_json::to_string(remembered)?;
        self.write_secret(&self.data.join(REMEMBERED), &text)
    }

    /// A file that only the server's user (and root) reads.
    fn write_secret(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut options = fs::OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = options
            .open(path)
            .with_context(|| format!("writing {}", path.display()))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        self.account
            .as_ref()
            .map_or(Ok(()), |account| account.own(path))
    }
}

/// `wanted`, or a private folder elsewhere when the server's user cannot get there.
fn place(wanted: &Path, account: Option<&Account>) -> anyhow::Result<PathBuf> {
    let wanted = std::path::absolute(wanted)?;
    let parent = wanted
        .parent()
        .context("a cluster needs a folder above it")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let Some(account) = account.filter(|account| !account.can_enter(parent)) else {
        return Ok(wanted);
    };
    let name = hex::encode(Sha256::digest(wanted.as_os_str().as_encoded_bytes()));
    let private = places::make_outside()?.join(&name[..12]);
    fs::create_dir_all(&private)?;
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700))?;
    account.own(&private)?;
    Ok(private.join("postgres"))
}
