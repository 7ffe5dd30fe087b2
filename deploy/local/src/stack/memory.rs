//! What a stack remembers between runs, so that `.local/env` of yesterday still works.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layout::{Layout, write_private};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// URL of our own Postgres when it last ran: a shell that has it from `.local/env` does not
    /// mean a foreign one.
    pub(super) own_database_url: Option<String>,
    pub(super) own_s3_endpoint: Option<String>,
    /// Where our own cluster really is (elsewhere than `postgres` when root's user could not enter).
    pub(super) postgres_data: Option<PathBuf>,
    pub(super) s3_port: Option<u16>,
    pub(super) access_key: Option<String>,
    pub(super) secret_key: Option<String>,
    pub(super) ops_password: Option<String>,
    pub(super) ops_url: Option<String>,
    pub(super) api_key: Option<String>,
}

impl Memory {
    /// Unreadable counts as empty: everything in it can be made anew.
    pub(super) fn read(layout: &Layout) -> Self {
        let text = std::fs::read(layout.memory()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(super) fn write(&self, layout: &Layout) -> anyhow::Result<()> {
        write_private(&layout.memory(), &serde_json::to_string_pretty(self)?)
    }
}
