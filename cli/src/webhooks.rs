//! Standing receivers, what was sent to them, and the secret that signs.

mod add;
mod deliveries;
mod list;
mod redeliver;
mod remove;
mod secret;

use clap::Subcommand;

use crate::{Ended, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum Webhooks {
    Add(add::Add),
    List(list::List),
    Remove(remove::Remove),
    Deliveries(deliveries::Deliveries),
    Redeliver(redeliver::Redeliver),
    Secret(secret::Secret),
}

impl Webhooks {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::Deliveries(deliveries) => deliveries.run().await,
            Self::Redeliver(redeliver) => redeliver.run().await,
            Self::Secret(secret) => secret.run().await,
        }
    }
}
