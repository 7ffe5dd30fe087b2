use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Shows who used how much, by jobs of the last 31 days that have ended
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  darkroom usage --group-by owner,day --from 2026-01-01 --to 2026-01-31")]
pub(crate) struct Usage {
    /// What to add up by: `day`, `model`, `owner`, or several of them with commas between; `day` if left out
    #[arg(long, value_name = "FIELDS")]
    group_by: Option<String>,
    /// Only this owner's; another one than yours needs the scope `admin`
    #[arg(long)]
    owner: Option<String>,
    /// First day on which the jobs ended, in UTC: `2026-01-31`
    #[arg(long, value_name = "DAY")]
    from: Option<chrono::NaiveDate>,
    /// Last day
    #[arg(long, value_name = "DAY")]
    to: Option<chrono::NaiveDate>,
    /// As the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Usage {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let asked = [
            ("group_by", self.group_by),
            ("owner", self.owner),
            ("from", self.from.map(|day| day.to_string())),
            ("to", self.to.map(|day| day.to_string())),
        ];
        let asked = asked.into_iter();
        let query: Vec<_> = asked
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        let path = plain::path("/v1/usage", &query);
        let text = Client::new(self.service)?.get(&path).await?;
        plain::answer(&text, self.json, plain::usage::table)?;
        Ok(Ended::Well)
    }
}
