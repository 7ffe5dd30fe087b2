use std::time::Duration;

use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Between two looks at a batch, which may take hours; it doubles up to the second one.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Shows a batch: its status, and how many of its jobs are where
///
/// Ends with 1 if it has ended and not all its jobs succeeded.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The batch's id
    #[arg(value_parser = crate::ids::in_path)]
    id: String,
    /// Wait until all its jobs have ended
    #[arg(long)]
    wait: bool,
    /// The batch as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Get {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let text = client.get(&format!("/v1/batches/{}", self.id)).await?;
        shown(&client, &text, self.wait, self.json).await
    }
}

/// The batch as it is, or at its end.
pub(super) async fn shown(
    client: &Client,
    text: &str,
    wait: bool,
    as_json: bool,
) -> Result<Ended, Failure> {
    let (mut text, mut pause) = (text.to_owned(), PAUSE);
    let mut batch = plain::read_json(&text)?;
    while wait && !super::has_ended(&batch) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        let path = format!("/v1/batches/{}", plain::bare(&batch["id"]));
        text = client.get(&path).await?;
        batch = plain::read_json(&text)?;
    }
    super::show(&text, as_json)?;
    Ok(super::ended(&batch))
}
