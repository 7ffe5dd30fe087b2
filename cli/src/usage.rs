use clap::Args;
use wire::{Usage as WireUsage, UsageList};

use crate::{
    Ended,
    failure::Failure,
    service::{self, Client, Service},
    terminal,
};

/// Shows what jobs used that ended in the last 31 days
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  darkroom usage --group-by owner,day --from 2026-01-01 --to 2026-01-31")]
pub(crate) struct Usage {
    /// What to add up by: `day`, `model`, `owner`, or several of them with commas between; `day` if left out
    #[arg(long, value_name = "FIELDS")]
    group_by: Option<String>,
    /// Only jobs of this owner; an owner other than yours needs the scope `admin`
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
        let query = [
            ("group_by", self.group_by),
            ("owner", self.owner),
            ("from", self.from.map(|day| day.to_string())),
            ("to", self.to.map(|day| day.to_string())),
        ];
        let query = query.into_iter();
        let query: Vec<_> = query
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        let path = service::path("/v1/usage", &query);
        let text = Client::new(self.service)?.get(&path).await?;
        terminal::answer(&text, self.json, table)?;
        Ok(Ended::Well)
    }
}

/// The fields that the sums are grouped by, then the sums.
fn table(list: &UsageList) -> String {
    let is_grouped_by = |name: &str| list.group_by.iter().any(|group| group == name);
    let groups = ["day", "owner", "model"].map(|name| (name, is_grouped_by(name)));
    let row = |usage: &WireUsage| {
        let groups = groups.iter().filter(|(_, is_shown)| *is_shown);
        let mut row: Vec<_> = groups
            .map(|(name, _)| match *name {
                "day" => terminal::some(usage.day),
                "owner" => terminal::some(usage.owner.as_ref()),
                _ => terminal::some(usage.model.as_ref()),
            })
            .collect();
        row.extend([
            usage.jobs.to_string(),
            usage.succeeded.to_string(),
            usage.image_bytes.to_string(),
            terminal::decimal(usage.infer_seconds),
            terminal::decimal(usage.attempt_seconds),
        ]);
        row
    };
    let heads = groups.iter().filter(|(_, is_shown)| *is_shown);
    let mut heads: Vec<_> = heads.map(|(name, _)| name.to_uppercase()).collect();
    heads.extend(["JOBS", "SUCCEEDED", "IMAGE BYTES", "INFER S", "ATTEMPT S"].map(str::to_owned));
    let heads: Vec<_> = heads.iter().map(String::as_str).collect();
    terminal::table(
        &heads,
        list.data.iter().map(row).collect(),
        "no job has ended yet",
    )
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

    #[test]
    fn the_groups_come_first() {
        let sums = json!({"model": "lite", "jobs": 2, "succeeded": 1, "image_bytes": 10, "infer_seconds": 0.25, "attempt_seconds": 1.5});
        let list = json!({"object": "list", "group_by": ["model"], "data": [sums]});
        assert_eq!(
            table(&serde_json::from_value(list).expect("a list")),
            "MODEL  JOBS  SUCCEEDED  IMAGE BYTES  INFER S  ATTEMPT S\n\
             lite   2     1          10           0.250    1.500"
        );
    }
}
