//! `darkroom keys …`: make, list and revoke API keys.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use jobs::{
    db::DbConfig,
    keys::{KeyLimits, NewKey, Scope, create, is_owner},
};
use reqwest::Method;
use wire::{ApiKey, Page};

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service, path_part},
    stores, terminal,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

impl Keys {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

/// Makes an API key and shows it, this once
///
/// The service keeps a hash only: a lost key is replaced, not looked up. The key alone goes to standard output.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What the key is for, for people
    #[arg(long)]
    name: String,
    /// Owner whose jobs the key sees; several keys may share an owner
    #[arg(long, value_parser = owner)]
    owner: String,
    /// What the key may do: `submit`, `read`, `webhooks`, `operate`, `admin`, separated by commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Vec<Scope>,
    /// How long the key is valid: `90d`, `12h`, `1year`; for ever if left out
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    /// Highest priority of jobs that the key submits, from 0 to 100; without it, the `--key-priority-max` of the API. Jobs of a higher
    /// priority run first, of any owner
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(0..=100))]
    priority_max: Option<i16>,
    /// One JSON line: `{"id", "key", "owner", "scopes", "expires_at", "priority_max"}`
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

fn expiry(valid_for: Duration) -> Result<DateTime<Utc>, Failure> {
    let valid_for = chrono::Duration::from_std(valid_for).ok();
    valid_for
        .and_then(|valid_for| Utc::now().checked_add_signed(valid_for))
        .ok_or_else(|| Failure::Usage("--expires-in lies too far ahead".into()))
}

impl Create {
    async fn run(self) -> Result<Ended, Failure> {
        let new = NewKey {
            name: self.name,
            owner: self.owner,
            scopes: self.scopes,
            expires_at: self.expires_in.map(expiry).transpose()?,
            limits: KeyLimits {
                priority_max: self.priority_max,
                ..KeyLimits::default()
            },
        };
        let db = stores::database(&self.db).await?;
        let made = create(&db, &new, None).await;
        let made = made.map_err(|e| Failure::away("the key", &e, stores::CHECK_POSTGRES))?;
        let key = made.key.expose();
        if self.json {
            terminal::json(serde_json::json!({
                "id": made.key_id, "key": key, "owner": new.owner, "scopes": new.scopes, "expires_at": new.expires_at,
                "priority_max": new.limits.priority_max,
            }))?;
        } else {
            terminal::line(key)?;
            let until = new.expires_at.map_or_else(
                || "until it is revoked".into(),
                |at| format!("until {}", at.format("%Y-%m-%d %H:%M UTC")),
            );
            terminal::note(format!(
                "key {} of {}, valid {until}: keep it, it is shown only this once",
                made.key_id, new.owner
            ));
        }
        Ok(Ended::Well)
    }
}

/// Lists API keys, without their secrets, which are not stored
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
    async fn run(self) -> Result<Ended, Failure> {
        let text = Client::new(self.service)?.get("/v1/api_keys").await?;
        terminal::answer(&text, self.json, table)?;
        Ok(Ended::Well)
    }
}

fn table(keys: &Page<ApiKey>) -> String {
    let row = |key: &ApiKey| {
        vec![
            key.id.clone(),
            key.name.clone(),
            key.owner.clone(),
            key.scopes.join(", "),
            terminal::some_time(key.expires_at.as_ref()),
            terminal::some_time(key.revoked_at.as_ref()),
            terminal::some_time(key.last_used_at.as_ref()),
        ]
    };
    let heads = [
        "ID",
        "NAME",
        "OWNER",
        "SCOPES",
        "EXPIRES",
        "REVOKED",
        "LAST USED",
    ];
    terminal::table(&heads, keys.data.iter().map(row).collect(), "no keys")
}

/// Ends an API key now; its jobs stay
///
/// To replace a key without a gap: create another key for the same owner, hand it out, then revoke the old one. Needs a key
/// with the scope `admin`. Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// `ID` of `darkroom keys list`
    #[arg(value_parser = path_part)]
    id: String,
    #[command(flatten)]
    service: Service,
}

impl Revoke {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/api_keys/{}", self.id);
        client.send_idempotent(Method::DELETE, &path).await?;
        Ok(Ended::Well)
    }
}
