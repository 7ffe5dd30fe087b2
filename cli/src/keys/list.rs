use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain::{self, any::Column},
    service::{Client, Service},
};

const COLUMNS: [Column; 6] = [
    ("ID", "/id"),
    ("NAME", "/name"),
    ("OWNER", "/owner"),
    ("SCOPES", "/scopes"),
    ("EXPIRES", "/expires_at"),
    ("REVOKED", "/revoked_at"),
];

/// Lists API keys; never the keys themselves, which nobody has
///
/// Needs a key with the scope `admin`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The list as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl List {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let text = Client::new(self.service)?.get("/v1/api_keys").await?;
        plain::answer(&text, self.json, |list| {
            plain::any::rows(&list["data"], &COLUMNS, "no keys")
        })?;
        Ok(Ended::Well)
    }
}
