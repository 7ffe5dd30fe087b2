use std::{fs, io, io::Read, path::PathBuf};

use clap::Args;
use jobs::Sha256Digest;

use super::{cannot_read, get};
use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// What is larger is not sent in one request.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// Submits many jobs in one request: NDJSON, one job a line
///
/// A line is a job as `POST /v1/jobs` takes it, with a `custom_id` of yours.
///
/// A line that is refused is reported with its number and does not sink the rest. Sending the same file again within a day
/// is the same batch, unless `--again` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
A line:
  {\"custom_id\": \"8841-1\", \"model\": \"resnet\", \"image\": {\"sha256\": \"…\"}, \"params\": {\"top_k\": 3}}

Examples:
  darkroom batch create jobs.ndjson
  darkroom batch create --wait --json - < jobs.ndjson
For photos on this machine, `darkroom submit DIR` is simpler: it uploads them, and can be interrupted.")]
pub(crate) struct Create {
    /// The jobs; `-` for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// A new batch, even if the same file was sent before
    #[arg(long)]
    again: bool,
    /// Wait until all its jobs have ended
    #[arg(long)]
    wait: bool,
    /// The batch as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Create {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let name = self.file.display().to_string();
        let mut lines = Vec::new();
        let read = if name == "-" {
            io::stdin()
                .lock()
                .take(BODY_BYTES_MAX)
                .read_to_end(&mut lines)
        } else {
            fs::File::open(&self.file)
                .and_then(|file| file.take(BODY_BYTES_MAX).read_to_end(&mut lines))
        };
        read.map_err(|error| cannot_read(&name, &error))?;
        if lines.len() as u64 == BODY_BYTES_MAX {
            return Err(Failure::Usage(format!(
                "{name} is larger than 1 GiB; split it"
            )));
        }
        let key = if self.again {
            uuid::Uuid::now_v7().to_string()
        } else {
            Sha256Digest::of(&lines).hex()
        };
        let client = Client::new(self.service)?;
        let text = client.submit_batch(lines.into(), &key).await?;
        let ended = get::shown(&client, &text, self.wait, self.json).await?;
        Ok(if self.wait { ended } else { Ended::Well })
    }
}
