mod list;
mod push;

use clap::Subcommand;

use crate::{Ended, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    List(list::List),
    Push(push::Push),
}

impl Models {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::List(list) => list.run().await,
            Self::Push(push) => push.run().await,
        }
    }
}
