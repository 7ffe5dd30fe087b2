mod create;
mod list;
mod revoke;

use clap::Subcommand;

use crate::{Ended, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    Create(create::Create),
    List(list::List),
    Revoke(revoke::Revoke),
}

impl Keys {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}
