use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Writes what became of the lines of a batch, in their order, as NDJSON
///
/// Each line has its `custom_id`, its number, and either the `job` or the `error` for which there is none. While the batch
/// runs it ends before the first line that has not ended; `--wait` goes on to the end, through breaks of the connection.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  darkroom batch results --wait batch_0198f3c2a1b47d1e8c55a0f3d2e1b4c7 > results.ndjson")]
pub(crate) struct Results {
    /// The batch's id
    #[arg(value_parser = crate::ids::in_path)]
    id: String,
    /// Until all lines have ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    service: Service,
}

impl Results {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        client.print_batch_results(&self.id, self.wait).await?;
        Ok(Ended::Well)
    }
}
