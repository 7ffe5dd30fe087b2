//! `darkroom models …`: list, check, compile, register, roll out and retire models.

mod check;
mod compile;
mod prefetch;
mod progress;
mod push;
mod statement;
mod trial;

use std::{collections::BTreeMap, fmt::Write as _};

use clap::{Args, Subcommand};
use jobs::models::is_alias;
use reqwest::Method;
use serde_json::{Value, json};
use wire::{AliasRequest, List as WireList, Model, ModelVersion, MovedAlias, ParamSpec};

use self::prefetch::Prefetch;
use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service, path_part},
    terminal,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    List(List),
    Show(Show),
    Check(check::Check),
    Compile(compile::Compile),
    Push(Box<push::Push>),
    Statement(statement::Statement),
    Alias(Alias),
    Unalias(Unalias),
    Prefetch(Prefetch),
    Retire(Retire),
    Unretire(Unretire),
}

impl Models {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Check(check) => check.run(),
            Self::Compile(compile) => compile.run(),
            Self::Push(push) => push.run().await,
            Self::Statement(statement) => statement.run(),
            Self::Alias(alias) => alias.run().await,
            Self::Unalias(unalias) => unalias.run().await,
            Self::Prefetch(prefetch) => prefetch.run().await,
            Self::Retire(retire) => retire.run().await,
            Self::Unretire(unretire) => unretire.run().await,
        }
    }
}

/// Lists the models that jobs may name
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
        let text = Client::new(self.service)?.get("/v1/models").await?;
        terminal::answer(&text, self.json, table)?;
        Ok(Ended::Well)
    }
}

/// One line for each model: its task, the version that its name alone means, and its parameters.
fn table(models: &WireList<Model>) -> String {
    let row = |model: &Model| {
        let mark = if model.is_default { " (default)" } else { "" };
        let params: Vec<_> = model
            .param_specs()
            .map(|(name, spec)| param(name, &spec))
            .collect();
        vec![
            format!("{}{mark}", model.name),
            model.task.clone(),
            terminal::some(model.default_version),
            params.join(" "),
        ]
    };
    let heads = ["MODEL", "TASK", "VERSION", "PARAMETERS"];
    let none = "no models yet; `darkroom models push DIR` registers one";
    terminal::table(&heads, models.data.iter().map(row).collect(), none)
}

/// `top_k=5 [1..1000]`: the default, then the bounds.
fn param(name: &str, spec: &ParamSpec) -> String {
    let bound = |bound: &Option<Value>| bound.as_ref().map(terminal::bare).unwrap_or_default();
    let (minimum, maximum) = (bound(&spec.minimum), bound(&spec.maximum));
    let default = format!("{name}={}", terminal::bare(&spec.default));
    if minimum.is_empty() && maximum.is_empty() {
        default
    } else {
        format!("{default} [{minimum}..{maximum}]")
    }
}

/// Shows a model: its parameters and its versions
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name, without alias or version
    #[arg(value_parser = path_part)]
    model: String,
    /// One JSON document: `{"model", "versions"}`, each as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Show {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/models/{}", self.model);
        let versions_path = format!("{path}/versions");
        if self.json {
            let model: Value = client.get_json(&path).await?;
            let versions: Value = client.get_json(&versions_path).await?;
            terminal::json(json!({"model": model, "versions": versions}))?;
        } else {
            let model = client.get_json(&path).await?;
            let versions = client.get_json(&versions_path).await?;
            terminal::line(page(&model, &versions))?;
        }
        Ok(Ended::Well)
    }
}

fn page(model: &Model, versions: &WireList<ModelVersion>) -> String {
    let row = |one: &ModelVersion| {
        vec![
            one.version.to_string(),
            one.aliases.join(", "),
            one.task.clone(),
            one.state.clone(),
            one.retired.to_string(),
            one.digest.clone(),
        ]
    };
    let heads = ["VERSION", "ALIASES", "TASK", "STATE", "RETIRED", "DIGEST"];
    let causes: String = versions.data.iter().map(causes).collect();
    let versions = versions.data.iter().map(row).collect();
    let versions = terminal::table(&heads, versions, "no versions");
    format!("{}\n\n{versions}{causes}", terminal::fields(model))
}

/// Why a version has no verdict or a bad one, what is wrong with it although it is ready, and why it could not be loaded: paragraphs, or nothing. A key without the scope
/// `operate` or `admin` sees none.
fn causes(version: &ModelVersion) -> String {
    let reference = format!("{}:{}", version.name, version.version);
    let is_ready = version.state == "ready";
    let mut text = String::new();
    if let Some(cause) = &version.state_cause {
        let warning = if is_ready { ", with a warning" } else { "" };
        let state = &version.state;
        let _ = write!(text, "\n\n{reference} is {state}{warning}:\n{cause}");
    }
    match &version.load_error {
        // A rejected version has this cause already.
        Some(error) if is_ready || version.state_cause.is_none() => {
            let (worker, at) = (&error.worker, wire::rfc3339(&error.at));
            let _ = write!(
                text,
                "\n\n{worker} could not load {reference} at {at}:\n{}",
                error.cause
            );
        }
        _ => {}
    }
    text
}

fn alias_name(text: &str) -> Result<String, &'static str> {
    if is_alias(text) {
        Ok(text.to_owned())
    } else {
        Err("an alias is a lowercase letter, then letters, digits, `.`, `_` or `-`, 50 at most")
    }
}

/// Which aliases an act moved and which it did not, a line for each.
fn aliases_after(moved: &[MovedAlias], aliases: &BTreeMap<String, i32>) -> Vec<String> {
    let mut lines: Vec<_> = moved
        .iter()
        .map(|one| match one.from {
            Some(from) => format!("`{}` moved from :{from} to :{}", one.alias, one.to),
            None => format!("`{}` is new and means :{}", one.alias, one.to),
        })
        .collect();
    let has_moved = |alias: &str| moved.iter().any(|one| one.alias == alias);
    let others = aliases.iter().filter(|(alias, _)| !has_moved(alias));
    lines.extend(others.map(|(alias, version)| format!("`{alias}` stays at :{version}")));
    lines
}

/// Points an alias of a model at a version: rolls the version out, or back
///
/// Jobs that name the model alone get the version of the alias `default`. Jobs that are submitted already keep their version.
/// Repeating is fine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom models alias resnet canary 8
  darkroom models alias resnet default 7      back again")]
pub(crate) struct Alias {
    /// Name of the model
    #[arg(value_parser = path_part)]
    model: String,
    /// `default`, or a name of yours
    #[arg(value_name = "ALIAS", value_parser = alias_name)]
    name: String,
    /// Number of the version: `darkroom models show MODEL` lists them
    version: i32,
    #[command(flatten)]
    service: Service,
}

impl Alias {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/models/{}/aliases/{}", self.model, self.name);
        let version = self.version;
        let answer = client.put(&path, &AliasRequest { version }).await?;
        let set: wire::Alias = terminal::read_json(&answer)?;
        let alias = self.name;
        terminal::note(match set.previous_version {
            Some(from) if from == version => format!("`{alias}` stays at :{version}"),
            Some(from) => format!("`{alias}` moved from :{from} to :{version}"),
            None => format!("`{alias}` is new and means :{version}"),
        });
        Ok(Ended::Well)
    }
}

/// Deletes an alias of a model
///
/// Jobs that are submitted already keep their version. New jobs that name the alias are refused; so are new jobs that name only
/// the model, if the alias is `default`. The alias `default` of the default model is kept: jobs that name no model use it.
#[derive(Debug, Args)]
pub(crate) struct Unalias {
    /// Name of the model
    #[arg(value_parser = path_part)]
    model: String,
    /// Its alias: `darkroom models show MODEL` lists them
    #[arg(value_name = "ALIAS", value_parser = alias_name)]
    name: String,
    #[command(flatten)]
    service: Service,
}

impl Unalias {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/models/{}/aliases/{}", self.model, self.name);
        client.send_idempotent(Method::DELETE, &path).await?;
        terminal::note(format!("`{}` is deleted", self.name));
        tell_aliases(&client, &self.model).await;
        Ok(Ended::Well)
    }
}

/// Retires a version: new jobs cannot name it
///
/// Jobs that named it before still run. A version that an alias points to is refused: move the alias first. Repeating is
/// fine.
#[derive(Debug, Args)]
pub(crate) struct Retire {
    /// Name of the model
    #[arg(value_parser = path_part)]
    model: String,
    /// Number of the version
    version: i32,
    #[command(flatten)]
    service: Service,
}

impl Retire {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let (model, version) = (self.model, self.version);
        let path = format!("/v1/models/{model}/versions/{version}/retire");
        client.send_idempotent(Method::POST, &path).await?;
        terminal::note(format!(
            "{model}:{version} is retired: new jobs cannot name it"
        ));
        tell_aliases(&client, &model).await;
        Ok(Ended::Well)
    }
}

/// Takes back a retirement: new jobs can name the version again
///
/// Moves no alias. Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Unretire {
    /// Name of the model
    #[arg(value_parser = path_part)]
    model: String,
    /// Number of the version
    version: i32,
    #[command(flatten)]
    service: Service,
}

impl Unretire {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let (model, version) = (self.model, self.version);
        let path = format!("/v1/models/{model}/versions/{version}/unretire");
        client.send_idempotent(Method::POST, &path).await?;
        terminal::note(format!("{model}:{version} can be named by jobs"));
        tell_aliases(&client, &model).await;
        Ok(Ended::Well)
    }
}

/// Says where the aliases of a model stay, if the key may read that.
async fn tell_aliases(client: &Client, model: &str) {
    let path = format!("/v1/models/{model}/versions");
    let Ok(versions) = client.get_json::<WireList<ModelVersion>>(&path).await else {
        return;
    };
    let aliases = versions.data.into_iter().flat_map(|version| {
        let number = version.version;
        version
            .aliases
            .into_iter()
            .map(move |alias| (alias, number))
    });
    for line in aliases_after(&[], &aliases.collect()) {
        terminal::note(line);
    }
}

#[cfg(test)]
mod tests {
    use super::{aliases_after, table};
    use serde_json::json;
    use wire::MovedAlias;

    #[test]
    fn a_push_says_what_moved_and_what_stayed() {
        let moved = |alias: &str, from| MovedAlias {
            alias: alias.into(),
            from,
            to: 3,
        };
        let moved = [moved("canary", None), moved("stable", Some(2))];
        let aliases = [("canary", 3), ("default", 1), ("stable", 3)];
        let aliases = aliases.map(|(alias, version)| (alias.to_owned(), version));
        assert_eq!(
            aliases_after(&moved, &aliases.into()),
            [
                "`canary` is new and means :3",
                "`stable` moved from :2 to :3",
                "`default` stays at :1"
            ]
        );
    }

    #[test]
    fn a_model_is_a_line_with_its_parameters() {
        let top_k = json!({"type": "integer", "minimum": 1, "maximum": 9, "default": 5});
        let model = |name: &str, task: &str, is_default: bool, version: i32, params| {
            json!({"name": name, "object": "model", "task": task, "is_default": is_default,
                   "default_version": version, "params": params, "license": null, "source": null})
        };
        let normalize = json!({"type": "boolean", "default": true});
        let list = json!({"object": "list", "data": [
            model("lite", "classify", true, 3, json!({"top_k": top_k})),
            model("lite-embed", "embed", false, 1, json!({"normalize": normalize})),
        ]});
        let want = "MODEL           TASK      VERSION  PARAMETERS\n\
                    lite (default)  classify  3        top_k=5 [1..9]\n\
                    lite-embed      embed     1        normalize=true";
        assert_eq!(table(&serde_json::from_value(list).expect("a list")), want);
    }
}
