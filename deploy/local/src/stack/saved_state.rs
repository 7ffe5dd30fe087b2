//! State of a stack that survives its restarts: ports, keys and passwords. An earlier `.local/env` stays valid.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layout::{Layout, write_private};

/// Ports, keys, passwords and URLs of the last run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SavedState {
    /// URL of the stack's own Postgres in its last run. A `DATABASE_URL` with this value comes from
    /// `.local/env` and does not name an external database.
    pub(super) own_database_url: Option<String>,
    pub(super) own_s3_endpoint: Option<String>,
    /// Folder of the stack's own cluster. It is not `postgres` when the server's user could not enter that.
    pub(super) postgres_data: Option<PathBuf>,
    pub(super) s3_port: Option<u16>,
    pub(super) access_key: Option<String>,
    pub(super) secret_key: Option<String>,
    pub(super) ops_password: Option<String>,
    pub(super) ops_url: Option<String>,
    pub(super) api_key: Option<String>,
}

impl SavedState {
    /// Reads the file. A missing or damaged file gives an empty state: `up` creates all of it again.
    pub(super) fn read(layout: &Layout) -> Self {
        let text = std::fs::read(layout.saved_state()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(super) fn write(&self, layout: &Layout) -> anyhow::Result<()> {
        write_private(&layout.saved_state(), &serde_json::to_string_pretty(self)?)
    }
}
