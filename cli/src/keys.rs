mod create;

use clap::Subcommand;

use crate::{Ended, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    Create(create::Create),
}

impl Keys {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::Create(create) => create.run().await,
        }
    }
}
