//! The files of a cluster: their folder, their creation, and the settings that survive restarts.

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
use crate::{paths, ports, secret};

/// File in the folder of the cluster, so that both are deleted together.
const SETTINGS_FILE: &str = "darkroom-local.json";

/// A cluster on disk.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) data: PathBuf,
    pub(super) account: Option<Account>,
}

/// Port and password. They survive restarts, so that URLs stay valid.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ConnectionSettings {
    pub(super) port: u16,
    pub(super) password: String,
}

impl Cluster {
    /// Opens the cluster of folder `wanted`, or creates it.
    ///
    /// # Errors
    /// Another major version of Postgres created the cluster.
    pub(super) async fn open(
        wanted: &Path,
        binaries: &Binaries,
        account: Option<Account>,
    ) -> anyhow::Result<Self> {
        let data = choose_folder(wanted, account.as_ref())?;
        let cluster = Self { data, account };
        match fs::read_to_string(cluster.data.join("PG_VERSION")) {
            Ok(version) => {
                let supported = binaries.major_version()?;
                if version.trim() != supported {
                    bail!(
                        "PostgreSQL {1} created the cluster in {0}, but the programs are {supported}; \
                         use PostgreSQL {1}, another --data, or remove this data: ./deploy/local/down --wipe \
                         (with the --data of this stack)",
                        cluster.data.display(),
                        version.trim()
                    );
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                cluster
                    .create(binaries)
                    .await
                    .context("creating a Postgres cluster")?;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", cluster.data.display()));
            }
        }
        Ok(cluster)
    }

    /// Runs initdb in a folder beside the final one and renames it, so that a partial cluster is never used.
    async fn create(&self, binaries: &Binaries) -> anyhow::Result<()> {
        let fresh = self.data.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        let settings = ConnectionSettings {
            port: ports::free_port()?,
            password: secret::hex(16),
        };
        let password_file = fresh.with_extension("password");
        self.write_secret(&password_file, &settings.password)?;
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
            bail!("initdb failed; its output:\n{}", initdb.log());
        }
        let _ = fs::remove_file(&log);
        Self {
            data: fresh.clone(),
            account: self.account.clone(),
        }
        .save_settings(&settings)?;
        if self.data.is_dir() {
            fs::remove_dir(&self.data).context("the folder is neither empty nor a cluster")?;
        }
        fs::rename(&fresh, &self.data)?;
        Ok(())
    }

    pub(super) fn read_settings(&self) -> anyhow::Result<ConnectionSettings> {
        let path = self.data.join(SETTINGS_FILE);
        let text = fs::read(&path).with_context(|| {
            format!(
                "reading {}: did darkroom-local create this cluster?",
                path.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
    }

    pub(super) fn save_settings(&self, settings: &ConnectionSettings) -> anyhow::Result<()> {
        let text = serde_json::to_string(settings)?;
        self.write_secret(&self.data.join(SETTINGS_FILE), &text)
    }

    /// Writes a file that only root and the user of Postgres can read.
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

/// Returns `wanted`, or a private folder if the user of Postgres cannot enter the folder of `wanted`.
fn choose_folder(wanted: &Path, account: Option<&Account>) -> anyhow::Result<PathBuf> {
    let wanted = std::path::absolute(wanted)?;
    let parent = wanted
        .parent()
        .context("the folder of a cluster cannot be /")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let Some(account) = account.filter(|account| !account.can_enter(parent)) else {
        return Ok(wanted);
    };
    let name = hex::encode(Sha256::digest(wanted.as_os_str().as_encoded_bytes()));
    let private = paths::create_shared_folder()?.join(&name[..12]);
    fs::create_dir_all(&private)?;
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700))?;
    account.own(&private)?;
    Ok(private.join("postgres"))
}
