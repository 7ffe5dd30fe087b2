mod alias;
mod list;
mod push;
mod retire;
mod show;

use clap::Subcommand;

use crate::{Ended, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    List(list::List),
    Show(show::Show),
    Push(push::Push),
    Alias(alias::Alias),
    Retire(retire::Retire),
}

impl Models {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Push(push) => push.run().await,
            Self::Alias(alias) => alias.run().await,
            Self::Retire(retire) => retire.run().await,
        }
    }
}
