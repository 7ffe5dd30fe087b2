//! Checks of a manifest beyond its schema, so that a mistake is found when a model is pushed and not when a job runs.

mod output;

use std::collections::HashSet;

use self::output::output;
use super::{
    InputSpec, Manifest, MaskSpec, ParamSpec, Precision, Resize, ResizeFilter, Target, Task,
    is_package,
};

/// Most pixels of a side of the model's input.
const INPUT_SIDE_PX_MAX: u32 = 4096;
/// Most boxes of one image.
const BOXES_MAX: i64 = 10_000;

/// A mistake in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, derive_more::Display)]
#[display("{field}: {detail}")]
pub struct Mistake {
    /// Path of the field, like `input.std`.
    pub field: String,
    pub detail: String,
}

#[derive(Debug, Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Mistake {
            field: field.into(),
            detail: detail.into(),
        });
    }

    fn unless(&mut self, is_right: bool, field: &str, detail: &str) {
        if !is_right {
            self.add(field, detail);
        }
    }
}

impl Manifest {
    /// All mistakes. A manifest without mistakes can be registered.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Mistakes::default();
        found.unless(
            is_name(&self.name),
            "name",
            "wants lowercase letters, digits, `.`, `_` and `-`, 100 at most, a letter or digit first",
        );
        found.unless(self.batch_max > 0, "batch_max", "must be at least 1");
        let precisions: HashSet<_> = self.precision.iter().collect();
        found.unless(
            !precisions.is_empty() && precisions.len() == self.precision.len(),
            "precision",
            "wants each of what the model allows once, its default first",
        );
        artifacts(self, &mut found);
        input(&self.input, &mut found);
        output(self, &mut found);
        for (name, spec) in &self.params {
            let field = format!("params.{name}");
            if let Err(detail) = spec.check(&spec.default_value()) {
                found.add(&field, format!("its default {detail}"));
            }
            match read_by(self, name) {
                None => found.add(
                    field,
                    format!("nothing of the task `{}` reads it", self.task),
                ),
                Some(kind) if kind != kind_of(spec) => {
                    found.add(
                        field,
                        format!("the task `{}` reads it as `{kind}`", self.task),
                    );
                }
                Some(_) => {}
            }
        }
        let boxes_max = self.params.get("max_boxes");
        if let Some(ParamSpec::Integer { maximum, .. }) = boxes_max {
            let bounded = maximum.is_some_and(|maximum| maximum <= BOXES_MAX);
            let detail = format!("wants a `maximum` of {BOXES_MAX} at most");
            found.unless(bounded, "params.max_boxes", &detail);
        }
        found.0
    }
}

/// Whether `name` fits the rule of the column `models.name`.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 100
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || "._-".contains(c))
}

fn artifacts(manifest: &Manifest, found: &mut Mistakes) {
    for key in manifest.artifacts.keys() {
        if let Err(detail) = key.parse::<Target>() {
            found.add(format!("artifacts.{key}"), detail);
        }
    }
    found.unless(
        !is_package(&manifest.artifact) || manifest.precision == [Precision::Fp32],
        "precision",
        "must be [\"fp32\"]: `artifact` is a package, which is compiled for one precision",
    );
}

fn input(input: &InputSpec, found: &mut Mistakes) {
    let is_side = |side: u32| (1..=INPUT_SIDE_PX_MAX).contains(&side);
    let side_detail = format!("wants 1 to {INPUT_SIDE_PX_MAX} pixels");
    let sides = [("input.width", input.width), ("input.height", input.height)];
    if let Resize::ShorterSide(rule) = input.resize {
        for (field, side) in [
            ("input.resize.shorter_side", rule.shorter_side),
            ("input.resize.crop", rule.crop),
        ] {
            found.unless(is_side(side), field, &side_detail);
        }
        for (field, side) in sides {
            let detail = "must be `resize.crop`: leave it out";
            found.unless(side == rule.crop, field, detail);
        }
        let filters = input.filter == ResizeFilter::default();
        let detail = "is not for this `resize`: its filter is `resize.interpolation`";
        found.unless(filters, "input.filter", detail);
    } else {
        for (field, side) in sides {
            match side {
                0 => found.add(field, format!("is missing or 0: {side_detail}")),
                side => found.unless(is_side(side), field, &side_detail),
            }
        }
    }
    found.unless(
        input.crop_ratio > 0.0 && input.crop_ratio <= 1.0,
        "input.crop_ratio",
        "wants a part of the shorter side: above 0, 1 at most",
    );
    let crops = input.resize == Resize::CenterCrop || input.crop_ratio.to_bits() == 1_f64.to_bits();
    found.unless(crops, "input.crop_ratio", "is for `center_crop` only");
    let pads = input.resize == Resize::Letterbox || super::is_gray(&input.pad_color);
    found.unless(pads, "input.pad_color", "is for `letterbox` only");
    found.unless(
        input.mean.iter().all(|mean| mean.is_finite()),
        "input.mean",
        "wants three numbers",
    );
    found.unless(
        input.std.iter().all(|std| std.is_finite() && *std > 0.0),
        "input.std",
        "wants three numbers above 0: pixels are divided by it",
    );
}

/// The type by which the task reads a parameter; `None` if the task does not read it.
fn read_by(manifest: &Manifest, param: &str) -> Option<&'static str> {
    match (manifest.task, param) {
        (Task::Classify, "top_k") | (Task::Detect, "max_boxes") => Some("integer"),
        (Task::Embed, "normalize") => Some("boolean"),
        (Task::Detect, "threshold") => Some("number"),
        (Task::Segment, "threshold") if manifest.output.mask == Some(MaskSpec::Threshold) => {
            Some("number")
        }
        _ => None,
    }
}

fn kind_of(spec: &ParamSpec) -> &'static str {
    match spec {
        ParamSpec::Integer { .. } => "integer",
        ParamSpec::Number { .. } => "number",
        ParamSpec::Boolean { .. } => "boolean",
    }
}

#[cfg(test)]
mod tests;
