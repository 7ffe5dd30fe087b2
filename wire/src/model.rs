use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Object, PresignedPut, digest};

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
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub manifest: Value,
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
