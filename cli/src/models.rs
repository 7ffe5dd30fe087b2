//! `darkroom models …`: list, compile, register, roll out and retire models.

mod compile;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jobs::{
    db::DbConfig,
    models::{ModelFolder, PushError, is_alias, push},
    object_store::StoreConfig,
};
use reqwest::Method;
use serde_json::{Value, json};
use wire::{AliasRequest, List as WireList, Model, ModelVersion, ParamSpec};

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service, path_part},
    stores, terminal,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    List(List),
    Show(Show),
    Compile(compile::Compile),
    Push(Push),
    Alias(Alias),
    Retire(Retire),
}

impl Models {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Compile(compile) => compile.run(),
            Self::Push(push) => push.run().await,
            Self::Alias(alias) => alias.run().await,
            Self::Retire(retire) => retire.run().await,
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
            one.retired.to_string(),
            one.digest.clone(),
        ]
    };
    let heads = ["VERSION", "ALIASES", "TASK", "RETIRED", "DIGEST"];
    let versions = versions.data.iter().map(row).collect();
    let versions = terminal::table(&heads, versions, "no versions");
    format!("{}\n\n{versions}", terminal::fields(model))
}

/// Registers a folder as a model version: `model.json` and the files it names
///
/// The files go to S3 by their digest, the version to Postgres. Pushing the same folder again changes nothing, except
/// that `--alias` moves. The first version of a model gets the alias `default`; jobs that name no model get the first model.
///
/// A model is TorchScript, which is code that workers run: push only what you trust.
///
/// Prints `NAME:VERSION sha256:… (new)`, or `(unchanged)`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Folder of `model.json`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Point this alias at the version, wherever the alias pointed before
    #[arg(long, value_name = "ALIAS", value_parser = alias_name)]
    alias: Option<String>,
    /// One JSON document: `{"name", "version", "digest", "alias", "new"}`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    db: DbConfig,
    #[command(flatten)]
    store: StoreConfig,
}

fn alias_name(text: &str) -> Result<String, &'static str> {
    if is_alias(text) {
        Ok(text.to_owned())
    } else {
        Err("an alias is a lowercase letter, then letters, digits, `.`, `_` or `-`, 50 at most")
    }
}

impl Push {
    async fn run(self) -> Result<Ended, Failure> {
        // Before anything else: a folder that is no model must not change the schema.
        let folder =
            ModelFolder::read(&self.folder).map_err(|error| Failure::Usage(error.to_string()))?;
        let db = stores::database(&self.db).await?;
        let store = stores::objects(&self.store).await?;
        let pushed = push(&db, &store, &folder, self.alias.as_deref()).await;
        let pushed = pushed.map_err(|error| match &error {
            PushError::Store(_) => Failure::away("the files", &error, stores::CHECK_S3),
            PushError::Db(_) => Failure::away("the version", &error, stores::CHECK_POSTGRES),
            _ => Failure::Usage(error.to_string()),
        })?;
        let (name, version, digest) = (pushed.name, pushed.version, pushed.digest);
        if self.json {
            terminal::json(json!({
                "name": name, "version": version, "digest": digest, "alias": self.alias, "new": pushed.is_new,
            }))?;
        } else {
            let news = if pushed.is_new { "new" } else { "unchanged" };
            terminal::line(format!("{name}:{version} {digest} ({news})"))?;
        }
        Ok(Ended::Well)
    }
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
        client.put(&path, &AliasRequest { version }).await?;
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
        let path = format!("/v1/models/{}/versions/{}/retire", self.model, self.version);
        client.send_idempotent(Method::POST, &path).await?;
        Ok(Ended::Well)
    }
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

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
