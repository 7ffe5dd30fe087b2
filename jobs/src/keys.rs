//! API keys `dk_<id>_<secret>`: shown once when they are made, stored as a hash.

mod create;
mod limits;
mod list;
mod revoke;
mod verify;

use std::str::FromStr;

use serde::Serialize;

pub use self::{
    create::{CreatedKey, NewKey, create, is_owner},
    limits::KeyLimits,
    list::{KeyView, list},
    revoke::revoke,
    verify::verify,
};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Upload images, submit and cancel jobs.
    Submit,
    /// See its owner's jobs and results.
    Read,
    /// Operate queues and workers.
    Operate,
    /// Register models and make keys.
    Admin,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Submit, Self::Read, Self::Operate, Self::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("no scope `{text}`: want submit, read, operate or admin"))
    }
}

/// The caller that a valid key identifies.
#[derive(Debug, Clone)]
pub struct Caller {
    pub key_id: String,
    pub owner: String,
    pub scopes: Vec<Scope>,
    pub limits: KeyLimits,
}

impl Caller {
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}
