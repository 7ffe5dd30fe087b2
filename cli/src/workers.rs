mod drain;
mod list;

use clap::{Args, Subcommand};

use crate::{Ended, failure::Failure};

/// Lists the workers, or lets one leave
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  darkroom workers
  darkroom workers drain 17"
)]
pub(crate) struct Workers {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Drain(drain::Drain),
}

impl Workers {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self.verb {
            None => self.list.run().await,
            Some(Verb::Drain(drain)) => drain.run().await,
        }
    }
}
