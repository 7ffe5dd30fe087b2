//! `darkroom models statement`: what to sign.

use std::path::PathBuf;

use clap::Args;
use jobs::models::{ModelFolder, statement};

use crate::{Ended, failure::Failure, terminal};

/// Prints what to sign before a folder is pushed: the name and the digest of the version
///
/// For a service that takes signed versions only. Needs no service and no credentials.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  darkroom models statement resnet/ > resnet.statement
  minisign -S -m resnet.statement             writes resnet.statement.minisig
  darkroom models push resnet/ --signature resnet.statement.minisig")]
pub(crate) struct Statement {
    /// Folder of `model.json`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Statement {
    pub(crate) fn run(self) -> Result<Ended, Failure> {
        let folder = ModelFolder::read(&self.folder);
        let folder = folder.map_err(|error| Failure::Usage(error.to_string()))?;
        terminal::line(statement(&folder.version()).trim_end())?;
        Ok(Ended::Well)
    }
}
