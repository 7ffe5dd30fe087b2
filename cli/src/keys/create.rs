use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use jobs::{
    db::DbConfig,
    keys::{KeyLimits, NewKey, Scope, create, is_owner},
};

use crate::{Ended, failure::Failure, plain, stores};

/// Makes an API key and shows it, this once
///
/// Only a hash of it is kept: a key that is lost is replaced, not looked up. The key alone goes to standard output.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What the key is for, for people
    #[arg(long)]
    name: String,
    /// Whose jobs it sees; several keys may share an owner
    #[arg(long, value_parser = owner)]
    owner: String,
    /// What it may do: `submit`, `read`, `operate`, `admin`, separated by commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Vec<Scope>,
    /// How long it is valid: `90d`, `12h`, `1year`; for ever if left out
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    /// One JSON line: `{"id", "key", "owner", "scopes", "expires_at"}`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    db: DbConfig,
}

fn owner(text: &str) -> Result<String, &'static str> {
    if is_owner(text) {
        Ok(text.to_owned())
    } else {
        Err("an owner is lowercase letters, digits, `_` or `-`, 63 at most, no sign first")
    }
}

fn expiry(lives: Duration) -> Result<DateTime<Utc>, Failure> {
    let lives = chrono::Duration::from_std(lives).ok();
    lives
        .and_then(|lives| Utc::now().checked_add_signed(lives))
        .ok_or_else(|| Failure::Usage("--expires-in lies too far ahead".into()))
}

impl Create {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let new = NewKey {
            name: self.name,
            owner: self.owner,
            scopes: self.scopes,
            expires_at: self.expires_in.map(expiry).transpose()?,
            limits: KeyLimits::default(),
        };
        let db = stores::database(&self.db).await?;
        let made = create(&db, &new, None).await;
        let made = made.map_err(|e| Failure::away("the key", &e, stores::CHECK_POSTGRES))?;
        let key = made.key.expose();
        if self.json {
            plain::line(serde_json::json!({
                "id": made.key_id, "key": key, "owner": new.owner, "scopes": new.scopes, "expires_at": new.expires_at,
            }))?;
        } else {
            plain::line(key)?;
            let until = new.expires_at.map_or_else(
                || "until it is revoked".into(),
                |at| format!("until {}", at.format("%Y-%m-%d %H:%M UTC")),
            );
            eprintln!(
                "key {} of {}, valid {until}: keep it, it is shown only this once",
                made.key_id, new.owner
            );
        }
        Ok(Ended::Well)
    }
}
