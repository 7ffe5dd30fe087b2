//! Creates what a new stack needs before its first job: models, an API key, the login of the operator.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::control::DesiredStack;
use super::env_file::Env;
use super::layout::Layout;
use super::services;

/// Folders of the models that ship. A second push of an unchanged folder creates no version.
const MODELS: [&str; 2] = [
    "models/efficientnet-lite0",
    "models/efficientnet-lite0-embed",
];

/// The login for psql, and the group role that the migrations create.
const OPS_LOGIN: &str = "darkroom_ops";
const OPS_GROUP: &str = "darkroom_reader";

/// Pushes the models of the checkout and returns their names.
pub(super) async fn push_models(
    layout: &Layout,
    desired: &DesiredStack,
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
        // Neither the API nor the workers run yet, the environment may have a key, and these models are known to load.
        let push = ["models", "push", "--direct", "--no-trial"];
        command(layout, desired, shared, &push, Some(&folder)).await?;
        pushed.push(model.trim_start_matches("models/").to_owned());
    }
    Ok(pushed)
}

/// Creates an API key with all scopes and returns it.
pub(super) async fn create_key(
    layout: &Layout,
    desired: &DesiredStack,
    shared: &Env,
) -> anyhow::Result<String> {
    let args = ["keys", "create", "--name", "local", "--owner", "local"];
    let rights = [
        "--scopes",
        "submit,read,webhooks,operate,admin",
        "--priority-max",
        "100",
        "--json",
    ];
    let output = command(
        layout,
        desired,
        shared,
        &[&args[..], &rights[..]].concat(),
        None,
    )
    .await?;
    let find = |line: &str| -> Option<String> {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line.get("key")?.as_str()?.to_owned())
    };
    output
        .lines()
        .find_map(find)
        .context("`darkroom keys create --json` printed no `key`")
}

/// Whether the API accepts `key`. It does not if the stack now uses another database.
pub(super) async fn key_works(url: &str, key: &str) -> bool {
    let request = reqwest::Client::new()
        .get(format!("{url}/v1/models"))
        .bearer_auth(key);
    let response = request.timeout(Duration::from_secs(10)).send().await;
    response.is_ok_and(|response| response.status() != reqwest::StatusCode::UNAUTHORIZED)
}

/// Creates the read-only login, or sets its password, and returns its URL.
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
    // No injection: both names are constants, and the password is hex.
    let statements = format!(
        "{verb} role {OPS_LOGIN} login password '{password}'; grant {OPS_GROUP} to {OPS_LOGIN}"
    );
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut db)
        .await
        .with_context(|| format!("creating the login {OPS_LOGIN} in {OPS_GROUP}"))?;
    db.close().await?;
    login_url(database_url, OPS_LOGIN, password)
}

/// Replaces user and password in `url`.
fn login_url(url: &str, user: &str, password: &str) -> anyhow::Result<String> {
    let (scheme, rest) = url.split_once("://").context("DATABASE_URL is not a URL")?;
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let host_and_path = rest[..authority_end]
        .rfind('@')
        .map_or(rest, |at| &rest[at + 1..]);
    Ok(format!("{scheme}://{user}:{password}@{host_and_path}"))
}

/// Runs `darkroom ARGS FOLDER` and returns its output.
async fn command(
    layout: &Layout,
    desired: &DesiredStack,
    shared: &Env,
    args: &[&str],
    folder: Option<&Path>,
) -> anyhow::Result<String> {
    let shown = format!("darkroom {}", args[..2].join(" "));
    let output = tempfile::NamedTempFile::new_in(&layout.data)?;
    let mut program = services::program(desired, "darkroom", shared).args(args);
    if let Some(folder) = folder {
        program = program.arg(folder);
    }
    let process = program.spawn(output.path())?;
    match process.wait_for(Duration::from_mins(5)).await {
        Some(status) if status.success() => Ok(process.log()),
        Some(status) => bail!(
            "`{shown}` failed ({status}); its output:\n{}",
            process.log()
        ),
        None => bail!(
            "`{shown}` did not end within five minutes; its output:\n{}",
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
