use sqlx::PgPool;

use super::{Trial, VersionState, cause::first_lines};

/// What a trial came to. The texts are causes for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The worker has loaded the version.
    Loaded,
    /// The worker has loaded the version, and found something wrong with it.
    LoadedWithWarning(String),
    /// The files of the version are wrong: no worker can load it.
    Refused(String),
    /// This worker has too little memory, or lost its device. Another worker may load it; the third such attempt rejects it.
    Failed(String),
    /// S3 or Postgres is away. Another worker tries, and nothing is charged.
    Released(String),
}

impl Verdict {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Loaded | Self::LoadedWithWarning(_) => "loaded",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Released(_) => "released",
        }
    }

    fn cause(&self) -> Option<String> {
        match self {
            Self::Loaded => None,
            Self::LoadedWithWarning(cause)
            | Self::Refused(cause)
            | Self::Failed(cause)
            | Self::Released(cause) => Some(first_lines(cause)),
        }
    }
}

/// Ends a trial. Returns the state of the version, or `None` if the worker has lost the trial: then nothing is written.
///
/// A version that becomes ready gets the alias that its push wanted, in this statement.
///
/// # Errors
/// Postgres is away, or another version became the default model at this moment. Try again: a verdict that was written already
/// answers `None`.
pub async fn end_trial(
    db: &PgPool,
    trial: Trial,
    verdict: &Verdict,
) -> Result<Option<VersionState>, sqlx::Error> {
    let state = sqlx::query_file_scalar!(
        "src/models/end_trial.sql",
        trial.version_id,
        trial.lease_no.0,
        verdict.as_str(),
        verdict.cause()
    );
    let state = state.fetch_one(db).await?;
    state.as_deref().map(VersionState::parse).transpose()
}
