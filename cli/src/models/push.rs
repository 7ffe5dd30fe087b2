use std::path::PathBuf;

use clap::Args;
use jobs::{
    db::DbConfig,
    models::{ModelFolder, PushError, push},
    object_store::StoreConfig,
};

use crate::{Ended, failure::Failure, plain, stores};

/// Registers a folder as a model version: `model.json` and the files it names
///
/// The files go to S3 by their digest, the version to Postgres. Pushing the same folder again changes nothing, except
/// that `--alias` moves. The first version of a model gets the alias `default`; the first model of all becomes the one of
/// jobs that name none.
///
/// A model is TorchScript, which is code that workers run: push only what you trust.
///
/// Prints `NAME:VERSION sha256:… (new)`, or `(unchanged)`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Folder of `model.json`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Point this alias at the version, wherever it pointed before
    #[arg(long, value_name = "ALIAS", value_parser = alias)]
    alias: Option<String>,
    /// One JSON document: `{"name", "version", "digest", "alias", "new"}`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    db: DbConfig,
    #[command(flatten)]
    store: StoreConfig,
}

/// The same rule as the table's.
pub(super) fn alias(text: &str) -> Result<String, &'static str> {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let fits = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(rest);
    if fits && text.len() <= 50 {
        Ok(text.to_owned())
    } else {
        Err("an alias is a lowercase letter, then letters, digits, `.`, `_` or `-`, 50 at most")
    }
}

impl Push {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        // Before anything else: a folder that is no model should not even touch the schema.
        let folder =
            ModelFolder::read(&self.folder).map_err(|error| Failure::Usage(error.to_string()))?;
        let db = stores::database(&self.db).await?;
        let store = stores::objects(&self.store).await?;
        let pushed = push(&db, &store, &folder, self.alias.as_deref()).await;
        let pushed = pushed.map_err(|error| match &error {
            PushError::Store(_) => Failure::away("the files", &error, stores::CHECK_S3),
            PushError::Db(_) => Failure::away("the version", &error, stores::CHECK_POSTGRES),
            _ => Failure::Usage(error.to_string()),
        })?;
        let (name, version, digest) = (pushed.name, pushed.version, pushed.digest);
        if self.json {
            plain::line(serde_json::json!({
                "name": name, "version": version, "digest": digest, "alias": self.alias, "new": pushed.is_new,
            }))?;
        } else {
            let news = if pushed.is_new { "new" } else { "unchanged" };
            plain::line(format!("{name}:{version} {digest} ({news})"))?;
        }
        Ok(Ended::Well)
    }
}
