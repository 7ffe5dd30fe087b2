use serde::{Deserialize, Serialize};

/// Whether a version can be used. Arrows: `docs/states.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// A worker has yet to load it. No job and no alias may name it.
    Validating,
    /// Jobs and aliases may name it.
    Ready,
    /// It cannot be loaded. No job and no alias may name it.
    Rejected,
}

impl VersionState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Ready => "ready",
            Self::Rejected => "rejected",
        }
    }

    /// Reads a state as Postgres stores it.
    ///
    /// # Errors
    /// A newer schema has more states.
    pub(super) fn parse(text: &str) -> Result<Self, sqlx::Error> {
        let all = [Self::Validating, Self::Ready, Self::Rejected];
        let state = all.into_iter().find(|state| state.as_str() == text);
        state.ok_or_else(|| {
            sqlx::Error::Decode(format!("this program knows no state {text:?} of a version").into())
        })
    }
}
