//! `darkroom models push`: through REST, or straight into Postgres and S3.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::Args;
use jobs::{
    db::{Db, DbConfig},
    models::{
        self, ModelFolder, PushError, PushOptions, SigningConfig, VersionState, count_loaded,
        push_with,
    },
    object_store::StoreConfig,
};
use serde_json::json;
use wire::{
    List, ModelFile, ModelFileUpload, ModelPush, ModelPushRequest, ModelVersion, MovedAlias,
    Object, Worker,
};

use super::{
    alias_name, aliases_after,
    prefetch::count,
    progress::Progress,
    trial::{TrialView, wait_for_verdict},
};
use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service, UploadEnd, Uploader},
    stores, terminal,
};

/// A service whose store keeps no checksums reads the files before it answers.
const SILENCE_MAX: Duration = Duration::from_mins(10);
/// How often the service is asked which files it lacks. More than twice means that URLs expired, or that files changed.
const ROUNDS_MAX: usize = 4;

/// Registers a folder as a model version: `model.json` and the files it names
///
/// With an API key of the scope `admin` (`DARKROOM_API_KEY`) the push goes through the service, and needs neither Postgres nor S3
/// credentials: the files go to S3 by signed URLs. Without a key, or with `--direct`, the command writes to Postgres
/// (`DATABASE_URL`) and S3 (AWS_…) itself: for a deployment whose service does not run yet.
///
/// Pushing the same folder again changes nothing, except that `--alias` moves. The first version of a model gets the alias
/// `default`; jobs that name no model get the first model.
///
/// A worker loads a new version first. Until then jobs cannot name the version, and `--alias` does not move. The command waits
/// for the verdict. It ends with 4 and the cause if the version is rejected: no alias has moved then. It ends with 3 if no
/// worker runs. Pushing a rejected version again tries the version again.
///
/// A model is TorchScript, which is code that workers run: push only what you trust.
///
/// Prints `NAME:VERSION sha256:… (new)`, or `(unchanged)`. Standard error says which aliases moved and which did not.
#[derive(Debug, Args)]
#[command(mut_arg("database_url", |arg| arg.required(false).default_value("").hide_default_value(true)))]
pub(crate) struct Push {
    /// Folder of `model.json`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Point this alias at the version, wherever the alias pointed before
    #[arg(long, value_name = "ALIAS", value_parser = alias_name)]
    alias: Option<String>,
    /// Do not wait for a worker: the version is ready at once, whether or not a worker can load it
    #[arg(long)]
    no_trial: bool,
    /// A signature of the version, if the service takes signed versions only: what minisign made of `darkroom models statement DIR`
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Write to Postgres and S3, even if there is an API key
    #[arg(long)]
    direct: bool,
    /// One JSON document: `{"name", "version", "digest", "alias", "new", "moved", "aliases"}`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    signing: SigningConfig,
    #[command(flatten)]
    service: Service,
    #[command(flatten)]
    db: DbConfig,
    #[command(flatten)]
    store: StoreConfig,
}

impl Push {
    pub(super) async fn run(self) -> Result<Ended, Failure> {
        // Before anything else: a folder that is no model must not reach the service or change the schema.
        let folder =
            ModelFolder::read(&self.folder).map_err(|error| Failure::Usage(error.to_string()))?;
        for warning in folder.warnings() {
            terminal::note(format!("warning: {warning}"));
        }
        let pushed = if self.goes_direct() {
            self.push_direct(&folder).await?
        } else {
            self.push_through_service(&folder).await?
        };
        let (name, digest) = (&pushed.model, &pushed.digest);
        let version = pushed.version.unwrap_or_default();
        if self.json {
            terminal::json(json!({
                "name": name, "version": version, "digest": digest, "alias": self.alias, "new": pushed.new,
                "moved": pushed.moved, "aliases": pushed.aliases,
            }))?;
        } else {
            let news = if pushed.new { "new" } else { "unchanged" };
            terminal::line(format!("{name}:{version} {digest} ({news})"))?;
            for line in aliases_after(&pushed.moved, &pushed.aliases) {
                terminal::note(line);
            }
        }
        Ok(Ended::Well)
    }

    fn goes_direct(&self) -> bool {
        let has_database = !self.db.database_url.expose().is_empty();
        self.direct || (self.service.api_key.is_none() && has_database)
    }

    /// Pushes, and waits for the end of the trial.
    async fn push_direct(&self, folder: &ModelFolder) -> Result<ModelPush, Failure> {
        if self.db.database_url.expose().is_empty() {
            let what = "--direct needs DATABASE_URL (or --database-url)";
            return Err(Failure::Usage(what.into()));
        }
        let signature = self.read_signature()?;
        let checked = self.signing.check(&folder.version(), signature.as_deref());
        let checked = checked.map_err(|error| Failure::Usage(error.to_string()))?;
        let db = stores::database(&self.db).await?;
        let store = stores::objects(&self.store).await?;
        stores::check_bucket(&db, &store).await?;
        let options = PushOptions {
            alias: self.alias.as_deref(),
            trial: !self.no_trial,
            actor: None,
            signature: checked.as_ref(),
        };
        let pushed = push_with(&db, &store, folder, &options).await;
        let pushed = pushed.map_err(|error| match &error {
            PushError::Store(_) => Failure::away("the files", &error, stores::CHECK_S3),
            PushError::Db(_) => Failure::away("the version", &error, stores::CHECK_POSTGRES),
            PushError::Retired { name, version } => Failure::Usage(format!(
                "{error}; `darkroom models unretire {name} {version}` takes that back"
            )),
        })?;
        let mut body = ModelPush {
            object: Object::ModelPush,
            model: pushed.name,
            digest: pushed.digest.to_string(),
            version: Some(pushed.version),
            new: pushed.is_new,
            state: Some(pushed.state.as_str().into()),
            moved: pushed.moved,
            aliases: pushed.aliases,
            uploads: vec![],
        };
        if pushed.state == VersionState::Validating {
            let reference = format!("{}:{}", body.model, pushed.version);
            let ask = async || trial_of(&db, &reference, pushed.id).await;
            wait_for_verdict(&reference, ask).await?;
            let versions = models::list(&db).await;
            let mut versions = versions
                .map_err(|error| Failure::away("the version", &error, stores::CHECK_POSTGRES))?;
            versions.retain(|one| one.name == body.model);
            let aliases = versions.into_iter().flat_map(|one| {
                let version = one.version;
                one.aliases.into_iter().map(move |alias| (alias, version))
            });
            update_aliases(&mut body, aliases.collect());
        }
        Ok(body)
    }

    async fn push_through_service(&self, folder: &ModelFolder) -> Result<ModelPush, Failure> {
        let uploader = Uploader::new(&self.service)?;
        let client = Client::with_silence_max(self.service.clone(), SILENCE_MAX)?;
        let path = format!("/v1/models/{}/versions", folder.manifest.name);
        let request = self.request(folder)?;
        let mut refused = None;
        for _ in 0..ROUNDS_MAX {
            let mut answer: ModelPush = client.post_json(&path, &request).await?;
            if answer.uploads.is_empty() {
                if answer.state.as_deref() == Some(VersionState::Validating.as_str()) {
                    wait_through_service(&client, &path, &mut answer).await?;
                }
                return Ok(answer);
            }
            for upload in &answer.uploads {
                match send(&uploader, folder, upload).await? {
                    UploadEnd::Stored => {}
                    // The URL may have expired. The next round brings another one.
                    UploadEnd::Refused(what) => {
                        refused = Some(format!("{}: {what}", upload.file));
                        break;
                    }
                }
            }
        }
        let what = refused.unwrap_or_else(|| "the service still lacks files that were sent".into());
        Err(Failure::Away {
            what,
            next: "check that no file of the folder changes meanwhile, and that this machine reaches the object store of the service",
        })
    }

    /// The content of the file of `--signature`.
    fn read_signature(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.signature else {
            return Ok(None);
        };
        let read = std::fs::read_to_string(path);
        let unreadable = |error| Failure::Usage(format!("{}: {error}", path.display()));
        read.map(Some).map_err(unreadable)
    }

    fn request(&self, folder: &ModelFolder) -> Result<ModelPushRequest, Failure> {
        let file = |file: &jobs::models::ModelFile| {
            let described = ModelFile {
                sha256: file.sha256.to_string(),
                bytes: file.bytes as i64,
            };
            (file.name.clone(), described)
        };
        Ok(ModelPushRequest {
            manifest: serde_json::to_value(&folder.manifest).unwrap_or_default(),
            files: folder.files().iter().map(file).collect::<BTreeMap<_, _>>(),
            alias: self.alias.clone(),
            trial: !self.no_trial,
            signature: self.read_signature()?,
        })
    }
}

/// Waits for the end of the trial, and tells in `pushed` what has moved since.
async fn wait_through_service(
    client: &Client,
    path: &str,
    pushed: &mut ModelPush,
) -> Result<(), Failure> {
    let number = pushed.version.unwrap_or_default();
    let reference = format!("{}:{number}", pushed.model);
    let ask = async || {
        let versions: List<ModelVersion> = client.get_json(path).await?;
        let version = versions.data.into_iter().find(|one| one.version == number);
        let version = version.ok_or_else(|| gone(&reference))?;
        // A key without the scope `operate` does not see the workers.
        let workers = client.get_json::<List<Worker>>("/v1/workers").await.ok();
        Ok(TrialView {
            state: version.state,
            cause: version.state_cause,
            worker: version.state_worker,
            workers: workers.map(|workers| count(&workers.data, &pushed.model, number).0),
        })
    };
    wait_for_verdict(&reference, ask).await?;
    let versions: List<ModelVersion> = client.get_json(path).await?;
    let aliases = versions.data.into_iter().flat_map(|one| {
        let version = one.version;
        one.aliases.into_iter().map(move |alias| (alias, version))
    });
    update_aliases(pushed, aliases.collect());
    Ok(())
}

/// The trial of a version, as Postgres has it.
async fn trial_of(db: &Db, reference: &str, id: i64) -> Result<TrialView, Failure> {
    let away = |what, error| Failure::away(what, &error, stores::CHECK_POSTGRES);
    let version = models::version(db, id).await;
    let version = version
        .map_err(|error| away("the version", error))?
        .ok_or_else(|| gone(reference))?;
    let workers = count_loaded(db, &version.name, version.version).await;
    let workers = workers.map_err(|error| away("the workers", error))?;
    Ok(TrialView {
        state: version.state.as_str().into(),
        cause: version.state_cause,
        worker: version.state_worker,
        workers: Some(workers.workers),
    })
}

fn gone(reference: &str) -> Failure {
    Failure::Usage(format!("{reference} was deleted meanwhile"))
}

/// The version is ready now. Its aliases have moved since the service answered.
fn update_aliases(pushed: &mut ModelPush, aliases: BTreeMap<String, i32>) {
    let to = pushed.version.unwrap_or_default();
    let before = std::mem::replace(&mut pushed.aliases, aliases);
    let moved = pushed
        .aliases
        .iter()
        .filter(|(alias, version)| **version == to && before.get(*alias) != Some(version));
    let moved = moved.map(|(alias, _)| MovedAlias {
        alias: alias.clone(),
        from: before.get(alias).copied(),
        to,
    });
    pushed.moved.extend(moved);
    pushed.state = Some(VersionState::Ready.as_str().into());
}

/// Uploads one file that the service lacks.
async fn send(
    uploader: &Uploader,
    folder: &ModelFolder,
    upload: &ModelFileUpload,
) -> Result<UploadEnd, Failure> {
    let file = folder.files().iter().find(|file| file.name == upload.file);
    let Some(file) = file else {
        return Err(Failure::Away {
            what: format!(
                "the service wants a file that the folder lacks: {}",
                upload.file
            ),
            next: "update this command: the service is newer",
        });
    };
    let progress = Progress::new(&file.name, file.bytes);
    let ended = uploader
        .upload(&upload.put, &file.path, |sent| progress.tell(sent))
        .await;
    progress.finish();
    Ok(ended?)
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::Push;

    /// The command line, as a shell without settings has it.
    fn parse(args: &[&str]) -> Push {
        let mut command = Push::augment_args(clap::Command::new("push"));
        command = command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
        let matches = command.try_get_matches_from([&["push", "folder"], args].concat());
        Push::from_arg_matches(&matches.expect("a right command line")).expect("its values")
    }

    #[test]
    fn a_push_goes_through_the_service_if_there_is_a_key_or_no_database() {
        let (key, database) = ("--api-key=dk_1_x", "--database-url=postgres://h/d");
        for (args, is_direct) in [
            (&[][..], false),
            (&[key], false),
            (&[database], true),
            (&[key, database], false),
            (&[key, database, "--direct"], true),
        ] {
            assert_eq!(parse(args).goes_direct(), is_direct, "{args:?}");
        }
    }
}
