use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Object, PresignedPut, digest, time::micros};

/// A model, and the version that its name refers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ModelBody))]
pub struct Model {
    pub name: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "model"))]
    pub object: Object,
    pub task: String,
    /// Whether jobs without a model use this one.
    pub is_default: bool,
    /// The version that the alias `default` points to.
    pub default_version: Option<i32>,
    /// The parameters that a job may set, with bounds and defaults.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub params: Map<String, Value>,
    pub license: Option<String>,
    pub source: Option<String>,
}

/// One parameter of a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ParamSpec {
    /// The value of a job that leaves the parameter out.
    #[serde(default)]
    pub default: Value,
    /// Empty if the parameter has no such bound.
    #[serde(default)]
    pub minimum: Option<Value>,
    #[serde(default)]
    pub maximum: Option<Value>,
}

/// One immutable version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = VersionBody))]
pub struct ModelVersion {
    pub name: String,
    pub version: i32,
    #[cfg_attr(feature = "openapi", schema(example = "sha256:9c…"))]
    pub digest: String,
    pub task: String,
    pub aliases: Vec<String>,
    pub retired: bool,
    /// `validating`: a worker has yet to load it, and no job may name it. `ready`. `rejected`: it cannot be loaded.
    #[serde(default = "ready")]
    #[cfg_attr(feature = "openapi", schema(required = true, example = "ready"))]
    pub state: String,
    /// Why it was rejected; while it is validating, why earlier workers could not decide; if it is ready, what the worker that
    /// tried it found wrong. Only for keys that may `operate` or `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_cause: Option<String>,
    /// The worker that loaded or rejected it. Only for such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_worker: Option<String>,
    /// The alias that moves to it once a worker has loaded it. Only for such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_wanted: Option<String>,
    /// Why a worker last failed to load it. Only for such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_error: Option<LoadErrorNote>,
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub manifest: Value,
}

/// A version that was registered before versions had states.
fn ready() -> String {
    "ready".into()
}

/// Why a worker could not load a version: the first lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoadErrorNote {
    pub cause: String,
    /// Name of the worker.
    pub worker: String,
    #[serde(serialize_with = "micros")]
    pub at: DateTime<Utc>,
}

/// How many workers have loaded a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Prefetch {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "prefetch"))]
    pub object: Object,
    pub model: String,
    pub version: i32,
    /// Workers that run the model and are not leaving.
    pub workers: i64,
    /// Those of them that have loaded the version.
    pub loaded: i64,
}

/// The version that an alias will refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub version: i32,
}

/// An alias, and the version that it refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AliasBody))]
pub struct Alias {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "alias"))]
    pub object: Object,
    pub model: String,
    pub alias: String,
    pub version: i32,
    /// The version that it referred to before; empty for a new alias.
    #[serde(default)]
    pub previous_version: Option<i32>,
}

/// A version to register: its manifest, and what its files are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelPushRequest {
    /// `model.json`
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub manifest: Value,
    /// Each file that the manifest names, by its name.
    pub files: BTreeMap<String, ModelFile>,
    /// The alias to point at the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[a-z][a-z0-9._-]{0,49}$", example = "stable")
    )]
    pub alias: Option<String>,
    /// Whether a worker has to load the version before jobs may name it and the alias moves.
    #[serde(default = "yes")]
    pub trial: bool,
    /// Content of the `.minisig` file: a signature of the version. Needed if the service trusts signed versions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

fn yes() -> bool {
    true
}

/// The digest and the length of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// 64 hex digits, with or without `sha256:` before them.
    #[serde(deserialize_with = "digest::deserialize")]
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^(sha256:)?[0-9a-fA-F]{64}$", example = "sha256:4f…")
    )]
    pub sha256: String,
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub bytes: i64,
}

/// What came of a push: the version, or the files that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ModelPushBody))]
pub struct ModelPush {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "model_push"))]
    pub object: Object,
    pub model: String,
    /// Of the manifest and its files: one digest is one version.
    #[cfg_attr(feature = "openapi", schema(example = "sha256:9c…"))]
    pub digest: String,
    /// Its number; empty while files are missing.
    pub version: Option<i32>,
    /// Whether this request made the version. `false`: it was there before, or files are missing.
    pub new: bool,
    /// `validating`: a worker has yet to load it, and then the alias moves. `ready`; `rejected`. Empty while files are missing.
    #[serde(default)]
    pub state: Option<String>,
    /// The aliases that this request moved.
    pub moved: Vec<MovedAlias>,
    /// Every alias of the model, and the version that it refers to now; empty while files are missing.
    pub aliases: BTreeMap<String, i32>,
    /// The files that the service lacks. Upload them, then repeat the request.
    pub uploads: Vec<ModelFileUpload>,
}

/// An alias that refers to another version than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MovedAlias {
    pub alias: String,
    /// Empty for a new alias.
    pub from: Option<i32>,
    pub to: i32,
}

/// The request that uploads one file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelFileUpload {
    /// Its name in the manifest.
    #[cfg_attr(feature = "openapi", schema(example = "model.pt"))]
    pub file: String,
    #[serde(flatten)]
    pub put: PresignedPut,
}

impl Model {
    /// The parameters by name. One that cannot be read is left out.
    pub fn param_specs(&self) -> impl Iterator<Item = (&str, ParamSpec)> {
        let params = self.params.iter();
        params.filter_map(|(name, spec)| Some((name.as_str(), ParamSpec::deserialize(spec).ok()?)))
    }
}
