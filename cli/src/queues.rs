mod pause;
mod resume;

use clap::Subcommand;

use crate::{Ended, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum Queues {
    Pause(pause::Pause),
    Resume(resume::Resume),
}

impl Queues {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::Pause(pause) => pause.run().await,
            Self::Resume(resume) => resume.run().await,
        }
    }
}
