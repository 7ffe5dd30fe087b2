//! `model.json`: the manifest of a model version.

mod answer_path;
mod artifacts;
mod check;
mod columns;
mod labels;
mod output;
mod read;
mod resize;
mod text;
mod warning;

use std::collections::BTreeMap;

pub use answer_path::AnswerPath;
pub use artifacts::{Target, is_package};
pub use check::Mistake;
pub use labels::{LABELS_BYTES_MAX, read_labels};
pub use output::{
    Activation, BoxLayout, BoxUnit, BoxesSpec, ClassScores, ClassesPerRow, Column, MaskSpec,
    OutputSpec, Sides,
};
pub use read::ReadError;
pub use resize::{Interpolation, Resize, ShorterSide};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value};
pub use warning::Warning;

use crate::{Problem, ProblemCode};

/// The manifest of a model version; `docs/models.md` explains each field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub task: Task,
    /// TorchScript file or AOTInductor package, relative to the manifest.
    pub artifact: String,
    /// Artifacts for devices of a kind, by [`Target`]; each replaces `artifact` there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, String>,
    /// Method of the TorchScript module; several methods let one artifact serve several tasks.
    #[serde(default = "forward")]
    pub method: String,
    pub input: InputSpec,
    /// File with one label per line, in the order of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    #[serde(default)]
    pub output: OutputSpec,
    /// Precisions that the model allows, the default first.
    #[serde(default = "fp32_only")]
    pub precision: Vec<Precision>,
    #[serde(default = "default_batch_max")]
    pub batch_max: u16,
    /// Parameters that a job may set.
    #[serde(default)]
    pub params: BTreeMap<String, ParamSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

fn forward() -> String {
    "forward".into()
}

fn fp32_only() -> Vec<Precision> {
    vec![Precision::Fp32]
}

fn default_batch_max() -> u16 {
    1
}

/// The kind of prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, derive_more::Display)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    #[display("classify")]
    Classify,
    #[display("embed")]
    Embed,
    /// One number.
    #[display("regress")]
    Regress,
    /// The output as it is.
    #[display("raw")]
    Raw,
    #[display("detect")]
    Detect,
    #[display("segment")]
    Segment,
}

/// How an upright RGB image becomes the model's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct InputSpec {
    /// Pixels. A side that the manifest leaves out is the side of the crop; 0 if `resize` has no crop.
    #[serde(default)]
    pub width: u32,
    #[serde(default)]
    pub height: u32,
    pub resize: Resize,
    /// For `center_crop`: the fraction of the shorter side that is kept.
    #[serde(default = "whole")]
    pub crop_ratio: f64,
    #[serde(default)]
    pub filter: ResizeFilter,
    /// For `letterbox`: the color around the image, RGB.
    #[serde(default = "gray", skip_serializing_if = "is_gray")]
    pub pad_color: [u8; 3],
    /// Per channel, for pixels of 0 to 255: input = (pixel - mean) / std.
    #[serde(serialize_with = "shortest")]
    pub mean: [f32; 3],
    #[serde(serialize_with = "shortest")]
    pub std: [f32; 3],
    /// Decode JPEGs at full size instead of the smallest DCT scale that covers the input.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full_decode: bool,
    #[serde(default, skip_serializing_if = "Color::is_default")]
    pub color: Color,
    #[serde(default, skip_serializing_if = "InputForm::is_default")]
    pub form: InputForm,
}

impl<'de> Deserialize<'de> for InputSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut input = Self::deserialize(deserializer)?;
        if let Resize::ShorterSide(rule) = input.resize {
            for side in [&mut input.width, &mut input.height] {
                if *side == 0 {
                    *side = rule.crop;
                }
            }
        }
        Ok(input)
    }
}

impl Serialize for InputSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

fn whole() -> f64 {
    1.0
}

/// Writes the shortest digits that mean these numbers: as `f64`, 123.675 would become 123.67500305175781.
fn shortest<S: Serializer>(numbers: &[f32; 3], serializer: S) -> Result<S::Ok, S::Error> {
    let digits = |number: f32| number.to_string().parse().unwrap_or(f64::from(number));
    numbers.map(digits).serialize(serializer)
}

/// The padding that common letterbox detectors were trained with.
const GRAY: [u8; 3] = [114; 3];

fn gray() -> [u8; 3] {
    GRAY
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_gray(color: &[u8; 3]) -> bool {
    *color == GRAY
}

/// The colors of the pixels that the model gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// sRGB: images whose file names another color space are converted.
    #[default]
    Srgb,
    /// The numbers in the file. Colors are not converted.
    Raw,
}

impl Color {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the model takes the images of a forward batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputForm {
    /// One tensor `[n, 3, height, width]`.
    #[default]
    Batch,
    /// A list of n tensors `[3, height, width]`.
    List,
}

impl InputForm {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeFilter {
    /// Not antialiased.
    Nearest,
    Bilinear,
    #[default]
    CatmullRom,
    Lanczos3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, derive_more::Display)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[display("fp32")]
    Fp32,
    #[display("bf16")]
    Bf16,
    #[display("fp16")]
    Fp16,
}

/// One parameter: its type, its bounds, and its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "type", rename_all = "snake_case")]
pub enum ParamSpec {
    Integer {
        minimum: Option<i64>,
        maximum: Option<i64>,
        default: i64,
    },
    Number {
        minimum: Option<f64>,
        maximum: Option<f64>,
        default: f64,
    },
    Boolean {
        default: bool,
    },
}

impl ParamSpec {
    fn default_value(&self) -> Value {
        match self {
            Self::Integer { default, .. } => (*default).into(),
            Self::Number { default, .. } => Number::from_f64(*default).into(),
            Self::Boolean { default } => (*default).into(),
        }
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::Boolean { .. }, Value::Bool(_)) => Ok(()),
            (Self::Boolean { .. }, _) => Err("must be true or false".into()),
            (
                Self::Integer {
                    minimum, maximum, ..
                },
                _,
            ) => match value.as_i64() {
                None => Err("must be an integer".into()),
                Some(n)
                    if minimum.is_some_and(|min| n < min) || maximum.is_some_and(|max| n > max) =>
                {
                    Err(format!("must lie in {}", range(*minimum, *maximum)))
                }
                Some(_) => Ok(()),
            },
            (
                Self::Number {
                    minimum, maximum, ..
                },
                _,
            ) => match value.as_f64() {
                None => Err("must be a number".into()),
                Some(n)
                    if minimum.is_some_and(|min| n < min) || maximum.is_some_and(|max| n > max) =>
                {
                    Err(format!("must lie in {}", range(*minimum, *maximum)))
                }
                Some(_) => Ok(()),
            },
        }
    }
}

fn range<T: std::fmt::Display>(minimum: Option<T>, maximum: Option<T>) -> String {
    let side = |bound: Option<T>| bound.map_or_else(|| "…".into(), |bound| bound.to_string());
    format!("{}..={}", side(minimum), side(maximum))
}

impl Manifest {
    /// Checks the parameters of a job and adds the defaults of those that are missing.
    ///
    /// # Errors
    /// A [`ProblemCode::InvalidParams`] with a pointer for each parameter that is unknown or out of bounds.
    pub fn params(&self, params: &Map<String, Value>) -> Result<Map<String, Value>, Box<Problem>> {
        let mut problem = Problem::new(
            ProblemCode::InvalidParams,
            format!("model {} does not take these parameters", self.name),
        );
        for (name, value) in params {
            let fault = match self.params.get(name) {
                None => Err(("unknown", "the model has no such parameter".to_owned())),
                Some(spec) => spec.check(value).map_err(|detail| ("invalid", detail)),
            };
            if let Err((code, detail)) = fault {
                problem = problem.with_error(&format!("/params/{name}"), code, detail);
            }
        }
        if !problem.errors.is_empty() {
            return Err(Box::new(problem));
        }
        let fill = |(name, spec): (&String, &ParamSpec)| {
            (
                name.clone(),
                params
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| spec.default_value()),
            )
        };
        Ok(self.params.iter().map(fill).collect())
    }

    /// Names of the version's files, without the manifest.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let artifacts = self.artifacts.values().map(String::as_str);
        let others = [Some(self.artifact.as_str()), self.labels.as_deref()];
        others.into_iter().flatten().chain(artifacts)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Manifest;

    fn lite0() -> Manifest {
        serde_json::from_value(json!({
            "name": "efficientnet-lite0", "task": "classify", "artifact": "model.pt",
            "input": {"width": 224, "height": 224, "resize": "center_crop", "crop_ratio": 0.875,
                      "filter": "catmull_rom", "mean": [127, 127, 127], "std": [128, 128, 128]},
            "labels": "labels.txt", "output": {"activation": "softmax"},
            "precision": ["fp32", "bf16", "fp16"], "batch_max": 64,
            "params": {"top_k": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 5}}
        }))
        .expect("manifest")
    }

    fn object(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_value(value).expect("object")
    }

    #[test]
    fn a_parameter_left_out_takes_its_default() {
        assert_eq!(
            lite0().params(&object(json!({}))).expect("fits")["top_k"],
            5
        );
        assert_eq!(
            lite0().params(&object(json!({"top_k": 3}))).expect("fits")["top_k"],
            3
        );
    }

    #[test]
    fn a_wrong_parameter_is_refused_with_a_pointer() {
        for (params, pointer) in [
            (json!({"top_k": 0}), "/params/top_k"),
            (json!({"top_k": 1001}), "/params/top_k"),
            (json!({"top_k": "5"}), "/params/top_k"),
            (json!({"top_k": 1.5}), "/params/top_k"),
            (json!({"topk": 5}), "/params/topk"),
        ] {
            let problem = lite0().params(&object(params)).expect_err("refused");
            assert_eq!(problem.errors[0].pointer, pointer);
        }
    }

    #[test]
    fn a_normalization_is_written_as_it_was_read() {
        let mut manifest = lite0();
        (manifest.input.mean, manifest.input.std) = ([123.675, 0.1, 0.0], [58.395, 57.12, 1e-3]);
        let value = serde_json::to_value(&manifest).expect("JSON");
        assert_eq!(value["input"]["mean"], json!([123.675, 0.1, 0.0]));
        assert_eq!(value["input"]["std"], json!([58.395, 57.12, 1e-3]));
        let text = serde_json::to_string(&manifest).expect("JSON");
        assert!(text.contains(r#""mean":[123.675,0.1,0.0]"#), "{text}");
        let read: Manifest = serde_json::from_value(value).expect("a manifest");
        assert_eq!(read, manifest);
    }

    #[test]
    fn a_manifest_with_an_unknown_field_is_refused() {
        let mut value = serde_json::to_value(lite0()).expect("JSON");
        value["artefact"] = json!("typo.pt");
        assert!(serde_json::from_value::<Manifest>(value).is_err());
    }
}
