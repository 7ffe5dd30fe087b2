//! `POST /v1/models/{name}/versions`: registers a version. Its files go straight into the object store, by signed URLs.

mod faults;

use std::{collections::BTreeMap, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, post,
    web::{Data, Payload},
};
use jobs::{
    Sha256Digest,
    keys::Scope,
    manifest::{LABELS_BYTES_MAX, Manifest},
    models::{
        self, NewVersion, PushError, PushOptions, PushedVersion, StoredFile, WantedFile, find_file,
        is_alias, manifest_mistakes, stored_file_mistake,
    },
    object_store::StoreError,
};
use wire::{ModelFileUpload, ModelPush, ModelPushRequest, Object, PresignedPut};

use self::faults::{Faults, NamedParts, pointer_to_file};
use super::ALIAS_RULE;
use crate::{
    ctx::Ctx,
    http::{error::ApiError, json::read_json},
    limits::keyring::Caller,
    openapi::{InvalidParams, InvalidRequest, SlowBody},
};

/// Registers a version of a model: a manifest and its files.
///
/// If the service lacks files, it answers 202 and signs an upload for each of them. Upload these files, then repeat the request.
/// Equal manifests with equal files are one version, however often they are pushed.
#[utoipa::path(
    operation_id = "push_version", tag = "models",
    params(("name" = String, Path, description = "Name of the model, as in the manifest")),
    request_body = ModelPushRequest,
    responses(
        (status = 200, description = "The version was registered before; the alias is set", body = ModelPush),
        (status = 201, description = "Registered", body = ModelPush),
        (status = 202, description = "Files are missing: upload each of `uploads`, then repeat the request", body = ModelPush),
        InvalidRequest,
        SlowBody,
        InvalidParams,
    ),
)]
#[post("/v1/models/{name}/versions")]
pub(super) async fn push_version(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let asked: ModelPushRequest = read_json(body, &ctx.config.limits).await?;
    let push = Push::new(
        &asked,
        request.match_info().query("name"),
        ctx.config.limits.model_file_bytes_max,
    )?;
    // Before any upload is signed: a version that is not trusted brings nothing into the bucket.
    let signature = ctx
        .config
        .signing
        .check(&push.version, asked.signature.as_deref());
    let signature = signature
        .map_err(|error| ApiError::invalid_field("/signature", error.code(), &error.to_string()))?;
    let is_known = models::is_registered(&ctx.db, &push.version).await?;
    let missing = push.find_missing_files(&ctx, is_known).await?;
    if !missing.is_empty() {
        let uploads = push.sign(&ctx, missing).await?;
        return Ok(HttpResponse::Accepted().json(push.body(None, uploads)));
    }
    if !is_known {
        push.check_files(&ctx).await?;
    }
    let options = PushOptions {
        alias: asked.alias.as_deref(),
        trial: asked.trial,
        actor: Some(&caller.audit_name()),
        signature: signature.as_ref(),
    };
    let pushed = match models::register(&ctx.db, &push.version, &options).await {
        Ok(pushed) => pushed,
        Err(PushError::Db(error)) => return Err(error.into()),
        Err(PushError::Store(error)) => return Err(error.into()),
        Err(error @ PushError::Retired { .. }) => {
            let detail = error.to_string();
            return Err(ApiError::invalid_field("/alias", "retired", &detail));
        }
    };
    let mut response = if pushed.is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(response.json(push.body(Some(pushed), vec![])))
}

/// A push whose request has no mistakes. Its files may be missing or wrong.
#[derive(Debug)]
struct Push {
    version: NewVersion,
    /// The files of the manifest, by their names.
    files: BTreeMap<String, WantedFile>,
}

impl Push {
    /// Checks all that can be checked without the files.
    ///
    /// # Errors
    /// `invalid_params`, with an entry for every mistake.
    fn new(request: &ModelPushRequest, name: &str, bytes_max: u64) -> Result<Self, ApiError> {
        let mut faults = Faults::default();
        let manifest = serde_json::from_value::<Manifest>(request.manifest.clone());
        match &manifest {
            Ok(manifest) => faults.add_mistakes(manifest_mistakes(manifest)),
            Err(_) => faults.add_unreadable(&request.manifest),
        }
        // The rest of the request is checked against the JSON, so that a mistake elsewhere in the manifest hides nothing.
        let named = NamedParts::of(&request.manifest);
        if named.name.is_some_and(|named| named != name) {
            faults.add("/manifest/name", "invalid", "is not the name in the path");
        }
        if request.alias.as_ref().is_some_and(|alias| !is_alias(alias)) {
            faults.add("/alias", "invalid", ALIAS_RULE);
        }
        for name in &named.files {
            if !request.files.contains_key(*name) {
                let detail = "the manifest names this file: its `sha256` and `bytes` are needed";
                faults.add(pointer_to_file(name), "missing", detail);
            }
        }
        let mut files = BTreeMap::new();
        for (name, file) in &request.files {
            let at = pointer_to_file(name);
            let is_named = named.files.contains(name.as_str());
            // The field with the mistake may be the one that names the file.
            if !is_named && manifest.is_ok() {
                faults.add(at, "unknown", "the manifest names no such file");
                continue;
            }
            let bytes_max = match named.labels {
                Some(labels) if labels == name => bytes_max.min(LABELS_BYTES_MAX as u64),
                _ => bytes_max,
            };
            let bytes = u64::try_from(file.bytes).unwrap_or(0);
            if !(1..=bytes_max).contains(&bytes) {
                let detail = format!("must lie in 1..={bytes_max}");
                faults.add(format!("{at}/bytes"), "invalid", detail);
            }
            match file.sha256.parse::<Sha256Digest>() {
                Ok(sha256) => drop(files.insert(name.clone(), WantedFile { sha256, bytes })),
                Err(error) => faults.add(format!("{at}/sha256"), "invalid", error.to_string()),
            }
        }
        let manifest = match manifest {
            Ok(manifest) if faults.is_empty() => manifest,
            _ => return Err(faults.into_error()),
        };
        let digests = files.iter().map(|(name, file)| (name.clone(), file.sha256));
        Ok(Self {
            version: NewVersion::new(manifest, digests.collect()),
            files,
        })
    }

    /// The names of the files that have to be uploaded. The store has checked the files of a known version before.
    ///
    /// # Errors
    /// `invalid_params`: stored files have another size than the request says. `service_unavailable`.
    async fn find_missing_files(&self, ctx: &Ctx, is_known: bool) -> Result<Vec<&str>, ApiError> {
        let (mut missing, mut faults) = (Vec::new(), Faults::default());
        for (name, file) in &self.files {
            let bytes_max = ctx.config.limits.model_file_bytes_max;
            match find_file(&ctx.store, *file, bytes_max, is_known).await? {
                StoredFile::Found => {}
                StoredFile::Missing => missing.push(name.as_str()),
                StoredFile::OtherSize(bytes) => {
                    let at = format!("{}/bytes", pointer_to_file(name));
                    let detail = format!("the file with this digest has {bytes} bytes");
                    faults.add(at, "invalid", detail);
                }
            }
        }
        faults.into_result()?;
        Ok(missing)
    }

    /// Reads as much of the stored files as the checks of a folder need.
    ///
    /// # Errors
    /// `invalid_params`, with an entry for each file that is not what the manifest says. `service_unavailable`.
    async fn check_files(&self, ctx: &Ctx) -> Result<(), ApiError> {
        let mut faults = Faults::default();
        for (name, file) in &self.files {
            let checked = stored_file_mistake(&ctx.store, &self.version.manifest, name, *file);
            match checked.await {
                Ok(mistake) => faults.add_mistakes(mistake),
                // Deleted since it was found: a repeated request finds it missing.
                Err(error @ StoreError::Missing(_)) => return Err(ApiError::unavailable(&error)),
                Err(error) => return Err(error.into()),
            }
        }
        faults.into_result()
    }

    async fn sign(&self, ctx: &Ctx, names: Vec<&str>) -> Result<Vec<ModelFileUpload>, ApiError> {
        let valid_for = Duration::from_secs(ctx.config.limits.upload_seconds);
        let mut uploads = Vec::new();
        for name in names {
            let WantedFile { sha256, bytes } = self.files[name];
            let key = models::object_key(sha256);
            let content_type = "application/octet-stream";
            let signed = ctx
                .store
                .presign_put(&key, sha256, bytes as i64, content_type, valid_for)
                .await?;
            uploads.push(ModelFileUpload {
                file: name.to_owned(),
                put: PresignedPut {
                    method: "PUT".into(),
                    url: signed.url,
                    headers: signed.headers,
                    expires_at: signed.expires_at,
                },
            });
        }
        Ok(uploads)
    }

    fn body(&self, pushed: Option<PushedVersion>, uploads: Vec<ModelFileUpload>) -> ModelPush {
        let mut body = ModelPush {
            object: Object::ModelPush,
            model: self.version.manifest.name.clone(),
            digest: self.version.digest.to_string(),
            version: None,
            new: false,
            state: None,
            moved: vec![],
            aliases: BTreeMap::new(),
            uploads,
        };
        if let Some(pushed) = pushed {
            body.version = Some(pushed.version);
            body.new = pushed.is_new;
            body.state = Some(pushed.state.as_str().into());
            body.moved = pushed.moved;
            body.aliases = pushed.aliases;
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wire::ModelPushRequest;

    use super::Push;

    fn request() -> Value {
        let sha256 = "4f".repeat(32);
        json!({
            "manifest": {
                "name": "lite", "task": "classify", "artifact": "model.pt", "labels": "labels.txt",
                "input": {"width": 8, "height": 8, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255]},
            },
            "files": {"model.pt": {"sha256": sha256, "bytes": 10}, "labels.txt": {"sha256": sha256, "bytes": 5}},
        })
    }

    /// The pointers of the mistakes, sorted.
    fn pointers(request: &Value) -> Vec<String> {
        let request: ModelPushRequest = serde_json::from_value(request.clone()).expect("reads");
        let Err(refused) = Push::new(&request, "lite", 100) else {
            return vec![];
        };
        let problem = refused
            .into_client_problem()
            .expect("a fault of the client");
        let mut pointers: Vec<_> = problem.errors.into_iter().map(|one| one.pointer).collect();
        pointers.sort();
        pointers
    }

    #[test]
    fn a_right_request_is_a_version() {
        assert!(pointers(&request()).is_empty());
    }

    #[test]
    fn every_mistake_of_a_request_is_named_at_once() {
        let mut wrong = request();
        wrong["manifest"]["name"] = "other".into();
        wrong["manifest"]["input"]["std"] = json!([255, 0, 255]);
        wrong["alias"] = "Stable".into();
        wrong["files"]["model.pt"]["bytes"] = 101.into();
        wrong["files"]["labels.txt"]["bytes"] = 0.into();
        wrong["files"]["read/me"] = wrong["files"]["model.pt"].clone();
        let want = [
            "/alias",
            "/files/labels.txt/bytes",
            "/files/model.pt/bytes",
            "/files/read~1me",
            "/manifest/input/std",
            "/manifest/name",
        ];
        assert_eq!(pointers(&wrong), want);
    }

    #[test]
    fn a_file_that_the_manifest_names_must_be_described() {
        let mut wrong = request();
        wrong["files"] = json!({});
        assert_eq!(pointers(&wrong), ["/files/labels.txt", "/files/model.pt"]);
    }

    #[test]
    fn a_manifest_that_cannot_be_read_is_named_by_its_field() {
        let mut wrong = request();
        wrong["manifest"]["input"]["width"] = "wide".into();
        assert_eq!(pointers(&wrong), ["/manifest/input/width"]);
        wrong["manifest"] = json!([]);
        assert_eq!(pointers(&wrong), ["/manifest"]);
    }

    #[test]
    fn a_typo_in_the_manifest_hides_no_other_mistake() {
        let mut wrong = request();
        wrong["manifest"]["preccision"] = json!(["fp32"]);
        wrong["manifest"]["name"] = "other".into();
        wrong["manifest"]["params"] =
            json!({"threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5}});
        wrong["alias"] = "Stable".into();
        wrong["files"]["model.pt"]["bytes"] = 0.into();
        let labels = wrong["files"].as_object_mut().expect("files");
        labels.remove("labels.txt");
        let want = [
            "/alias",
            "/files/labels.txt",
            "/files/model.pt/bytes",
            "/manifest/name",
            "/manifest/params/threshold",
            "/manifest/preccision",
        ];
        assert_eq!(pointers(&wrong), want);
    }

    #[test]
    fn a_file_is_not_blamed_for_a_typo_in_the_field_that_names_the_file() {
        let mut wrong = request();
        let manifest = wrong["manifest"].as_object_mut().expect("a manifest");
        let artifact = manifest.remove("artifact").expect("an artifact");
        manifest.insert("artefact".into(), artifact);
        assert_eq!(pointers(&wrong), ["/manifest/artefact"]);
    }
}
