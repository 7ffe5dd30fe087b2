//! What a fresh stack needs before its first job: models, an API key, the operator's login.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::control::Wish;
use super::env_file::Env;
use super::layout::Layout;
use super::services;

/// The models that ship; each pushed once, since the same folder again is the same version.
const MODELS: [&str; 2] = [
    "models/efficientnet-lite0",
    "models/efficientnet-lite0-embed",
];

/// The login for people who look with psql, and the group role that the migrations make.
const OPS_LOGIN: &str = "darkroom_ops";
const OPS_GROUP: &str = "darkroom_reader";

/// Pushes the models that the checkout has; their names.
pub(super) async fn push_models(
    layout: &Layout,
    wish: &Wish,
    shared: &Env,
) -> anyhow::Result<Vec<String>> {
    let checkout = crate::checkout()?;
    let mut pushed = Vec::new();
    for model in MODELS {
        let folder = checkout.join(model);
        if !folder.join("model.json").is_file() {
            bail!(
                "no model in {}; is the checkout complete?",
                folder.display()
            );
        }
        command(layout, wish, shared, &["models", "push"], Some(&folder)).await?;
        pushed.push(model.trim_start_matches("models/").to_owned());
    }
    Ok(pushed)
}

/// Makes an API key with all scopes.
pub(super) async fn create_key(
    layout: &Layout,
    wish: &Wish,
    shared: &Env,
) -> anyhow::Result<String> {
    let args = ["keys", "create", "--name", "local", "--owner", "local"];
    let scopes = ["--scopes", "submit,read,operate,admin", "--json"];
    let said = command(
        layout,
        wish,
        shared,
        &[&args[..], &scopes[..]].concat(),
        None,
    )
    .await?;
    let find = |line: &str| -> Option<String> {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line.get("key")?.as_str()?.to_owned())
    };
    said.lines()
        .find_map(find)
        .context("`darkroom keys create --json` printed no `key`")
}

/// Whether the API still takes `key` (another database does not know it).
pub(super) async fn key_works(url: &str, key: &str) -> bool {
    let asked = reqwest::Client::new()
        .get(format!("{url}/v1/models"))
        .bearer_auth(key);
    let asked = asked.timeout(Duration::from_secs(10)).send().await;
    asked.is_ok_and(|answer| answer.status() != reqwest::StatusCode::UNAUTHORIZED)
}

/// Makes the read-only login; its URL.
pub(super) async fn operator_login(database_url: &str, password: &str) -> anyhow::Result<String> {
    let mut db = PgConnection::connect(database_url)
        .await
        .context("connecting as the owner")?;
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
            .bind(OPS_LOGIN)
            .fetch_one(&mut db)
            .await?;
    let verb = if exists { "alter" } else { "create" };
    // Safe: both names are constants, the password is hex of our own making.
    let statements = format!(
        "{verb} role {OPS_LOGIN} login password '{password}'; grant {OPS_GROUP} to {OPS_LOGIN}"
    );
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut db)
        .await
        .with_context(|| format!("making the login {OPS_LOGIN} in {OPS_GROUP}"))?;
    db.close().await?;
    login_url(database_url, OPS_LOGIN, password)
}

/// `url` with another user and password.
fn login_url(url: &str, user: &str, password: &str) -> anyhow::Result<String> {
    let (scheme, rest) = url.split_once("://").context("DATABASE_URL is not a URL")?;
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let place = rest[..authority_end]
        .rfind('@')
        .map_or(rest, |at| &rest[at + 1..]);
    Ok(format!("{scheme}://{user}:{password}@{place}"))
}

/// Runs `darkroom …` and returns what it printed.
async fn command(
    layout: &Layout,
    wish: &Wish,
    shared: &Env,
    args: &[&str],
    folder: Option<&Path>,
) -> anyhow::Result<String> {
    let shown = format!("darkroom {}", args[..2].join(" "));
    let output = tempfile::NamedTempFile::new_in(&layout.data)?;
    let mut program = services::program(wish, "darkroom", shared).args(args);
    if let Some(folder) = folder {
        program = program.arg(folder);
    }
    let process = program.spawn(output.path())?;
    match process.wait_for(Duration::from_mins(5)).await {
        Some(status) if status.success() => Ok(process.log()),
        Some(status) => bail!("`{shown}` failed ({status}); it said:\n{}", process.log()),
        None => bail!(
            "`{shown}` did not end within five minutes; it said:\n{}",
            process.log()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::login_url;

    #[test]
    fn another_login_on_the_same_database() {
        for (url, expected) in [
            ("postgres://a:b@h:1/db", "postgres://ops:pw@h:1/db"),
            (
                "postgresql://h/db?sslmode=require",
                "postgresql://ops:pw@h/db?sslmode=require",
            ),
            ("postgres://a:b%40c@h:1/d@b", "postgres://ops:pw@h:1/d@b"),
        ] {
            assert_eq!(login_url(url, "ops", "pw").expect("a URL"), expected);
        }
    }
}
