//! Checks of a manifest beyond its schema, so that a mistake is found when a model is pushed and not when a job runs.

use std::collections::HashSet;

use super::{
    Activation, AnswerPath, BoxesSpec, ClassesPerRow, InputSpec, Manifest, MaskSpec, ParamSpec,
    Precision, Resize, ResizeFilter, Target, Task, is_package,
};

/// Most pixels of a side of the model's input.
const INPUT_SIDE_PX_MAX: u32 = 4096;
/// Most tensors that make the columns of the boxes.
const FIELDS_MAX: usize = 16;
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

fn output(manifest: &Manifest, found: &mut Mistakes) {
    let (task, output) = (manifest.task, &manifest.output);
    let only = |of: Task| format!("is for the task `{of}` only");
    found.unless(
        output.unit.is_none() || task == Task::Regress,
        "output.unit",
        &only(Task::Regress),
    );
    if let Some(detail) = output.path.as_ref().and_then(AnswerPath::mistake) {
        found.add("output.path", detail);
    }
    match &output.boxes {
        Some(boxes) if task == Task::Detect => {
            fields(boxes, found);
            if let Err(detail) = boxes.layout() {
                found.add("output.boxes.columns", detail);
            }
            if let Ok(layout) = boxes.layout() {
                found.unless(
                    layout.class_scores.is_some() || boxes.classes_per_row == ClassesPerRow::Best,
                    "output.boxes.classes_per_row",
                    "is for rows with `class_scores` only",
                );
            }
            found.unless(
                boxes.nms_iou.is_none_or(|iou| iou > 0.0 && iou <= 1.0),
                "output.boxes.nms_iou",
                "wants an overlap: above 0, 1 at most",
            );
        }
        Some(_) => found.add("output.boxes", only(Task::Detect)),
        None if task == Task::Detect => {
            found.add("output.boxes", "is missing: the task `detect` needs it");
        }
        None => {}
    }
    match output.mask {
        Some(_) if task != Task::Segment => found.add("output.mask", only(Task::Segment)),
        None if task == Task::Segment => {
            found.add("output.mask", "is missing: the task `segment` needs it");
        }
        _ => {}
    }
    let fits = match (task, output.activation) {
        (_, Activation::None)
        | (Task::Classify | Task::Embed | Task::Raw, _)
        | (Task::Regress, Activation::Sigmoid) => true,
        (Task::Segment, Activation::Sigmoid) => output.mask == Some(MaskSpec::Threshold),
        _ => false,
    };
    found.unless(
        fits,
        "output.activation",
        "does not go with this task: leave it out",
    );
    let labels = !matches!(task, Task::Embed | Task::Regress | Task::Raw);
    found.unless(
        labels || manifest.labels.is_none(),
        "labels",
        &format!("the task `{task}` names nothing"),
    );
}

fn fields(boxes: &BoxesSpec, found: &mut Mistakes) {
    for (index, field) in boxes.fields.iter().enumerate() {
        if let Some(detail) = field.mistake() {
            found.add(format!("output.boxes.fields[{index}]"), detail);
        }
    }
    let most = format!("wants {FIELDS_MAX} tensors at most");
    found.unless(
        boxes.fields.len() <= FIELDS_MAX,
        "output.boxes.fields",
        &most,
    );
    found.unless(
        boxes.fields.is_empty() || !boxes.transposed,
        "output.boxes.transposed",
        "does not go with `fields`: these are joined to rows of columns",
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
mod tests {
    use std::collections::HashSet;

    use serde_json::{Value, json};

    use crate::manifest::Manifest;

    fn detector() -> Value {
        json!({
            "name": "finder", "task": "detect", "artifact": "model.pt", "labels": "labels.txt",
            "input": {"width": 640, "height": 640, "resize": "letterbox", "pad_color": [0, 0, 0],
                      "mean": [0, 0, 0], "std": [255, 255, 255]},
            "output": {"boxes": {"columns": ["x1", "y1", "x2", "y2", "score", "class"], "nms_iou": 0.5}},
            "params": {"threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.25},
                       "max_boxes": {"type": "integer", "minimum": 1, "maximum": 300, "default": 100}}
        })
    }

    /// The fields with mistakes after one change.
    fn wrong(pointer: &str, value: Value) -> Vec<String> {
        let mut manifest = detector();
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        manifest.pointer_mut(parent).expect("parent")[field] = value;
        let manifest: Manifest = serde_json::from_value(manifest).expect("well-formed");
        let mistakes = manifest.mistakes().into_iter();
        mistakes.map(|mistake| mistake.field).collect()
    }

    #[test]
    fn a_right_manifest_has_no_mistakes() {
        assert!(wrong("/batch_max", json!(4)).is_empty());
    }

    #[test]
    fn each_mistake_is_named_by_its_field() {
        for (pointer, value, field) in [
            ("/name", json!("Finder"), "name"),
            ("/batch_max", json!(0), "batch_max"),
            ("/precision", json!([]), "precision"),
            ("/precision", json!(["fp32", "fp32"]), "precision"),
            (
                "/artifacts",
                json!({"cpu-sse": "model.pt"}),
                "artifacts.cpu-sse",
            ),
            ("/input/width", json!(0), "input.width"),
            ("/input/height", json!(5000), "input.height"),
            ("/input/crop_ratio", json!(0.5), "input.crop_ratio"),
            ("/input/std", json!([1, 0, 1]), "input.std"),
            ("/output/unit", json!("cm"), "output.unit"),
            ("/output/boxes", Value::Null, "output.boxes"),
            (
                "/output/boxes/columns",
                json!(["x1"]),
                "output.boxes.columns",
            ),
            ("/output/boxes/nms_iou", json!(1.5), "output.boxes.nms_iou"),
            (
                "/output/boxes/classes_per_row",
                json!("all"),
                "output.boxes.classes_per_row",
            ),
            ("/output/path", json!("1..boxes"), "output.path"),
            (
                "/output/boxes/fields",
                json!(["boxes", ""]),
                "output.boxes.fields[1]",
            ),
            (
                "/output/boxes/fields",
                json!(vec!["scores"; 17]),
                "output.boxes.fields",
            ),
            ("/output/mask", json!("class_ids"), "output.mask"),
            ("/output/activation", json!("softmax"), "output.activation"),
            ("/params/threshold/default", json!(2), "params.threshold"),
            (
                "/params/threshold",
                json!({"type": "boolean", "default": true}),
                "params.threshold",
            ),
            (
                "/params/top_k",
                json!({"type": "integer", "default": 5}),
                "params.top_k",
            ),
            (
                "/params/max_boxes/maximum",
                json!(100_000),
                "params.max_boxes",
            ),
        ] {
            assert_eq!(wrong(pointer, value), [field], "{pointer}");
        }
    }

    #[test]
    fn a_resize_with_a_crop_needs_no_sides_and_has_a_filter_of_its_own() {
        let mut manifest = detector();
        let input = |width: Value, shorter_side: u32, crop: u32| {
            json!({"width": width, "resize": {"shorter_side": shorter_side, "crop": crop},
                   "mean": [0, 0, 0], "std": [255, 255, 255]})
        };
        for (input, fields) in [
            (input(json!(224), 256, 224), vec![]),
            (input(json!(256), 256, 224), vec!["input.width"]),
            (
                input(json!(1), 0, 5000),
                vec![
                    "input.resize.shorter_side",
                    "input.resize.crop",
                    "input.width",
                ],
            ),
        ] {
            manifest["input"] = input;
            let read: Manifest = serde_json::from_value(manifest.clone()).expect("well-formed");
            assert_eq!(read.input.height, read.input.height.max(1), "filled in");
            let mistakes = read.mistakes().into_iter().map(|mistake| mistake.field);
            assert_eq!(mistakes.collect::<Vec<_>>(), fields);
        }
        manifest["input"] = input(json!(224), 256, 224);
        manifest["input"]["filter"] = json!("lanczos3");
        let read: Manifest = serde_json::from_value(manifest).expect("well-formed");
        assert_eq!(read.mistakes()[0].field, "input.filter");
    }

    #[test]
    fn a_package_that_serves_all_devices_has_one_precision() {
        assert!(wrong("/artifact", json!("model.pt2")).is_empty());
        let mut manifest = detector();
        manifest["artifact"] = json!("model.pt2");
        manifest["precision"] = json!(["fp32", "bf16"]);
        let manifest: Manifest = serde_json::from_value(manifest).expect("well-formed");
        let mistakes = manifest.mistakes();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert_eq!(mistakes[0].field, "precision");
    }

    #[test]
    fn fields_are_joined_to_rows_so_they_are_not_transposed() {
        let mut boxes = detector()["output"]["boxes"].clone();
        boxes["fields"] = json!(["boxes", "scores", "labels"]);
        assert!(wrong("/output/boxes", boxes.clone()).is_empty());
        boxes["transposed"] = json!(true);
        assert_eq!(wrong("/output/boxes", boxes), ["output.boxes.transposed"]);
    }

    #[test]
    fn a_model_may_take_a_list_and_answer_with_a_tuple() {
        assert!(wrong("/input/form", json!("list")).is_empty());
        assert!(wrong("/output/path", json!("1")).is_empty());
    }

    #[test]
    fn what_belongs_to_another_task_is_a_mistake_of_its_own() {
        let mistakes = wrong("/task", json!("segment"));
        let expected = [
            "output.boxes",
            "output.mask",
            "params.max_boxes",
            "params.threshold",
        ];
        assert_eq!(mistakes, expected);
        assert_eq!(
            wrong("/input/resize", json!("stretch")),
            ["input.pad_color"]
        );
    }

    /// The manual has at least one manifest for each task.
    #[test]
    fn the_manifests_of_the_manual_are_right() {
        let manual = include_str!("../../../docs/models.md");
        let mut tasks = HashSet::new();
        for block in manual.split("```json\n").skip(1) {
            let block = block.split("```").next().expect("a block ends");
            let manifest: Manifest = serde_json::from_str(block).expect(block);
            assert_eq!(manifest.mistakes(), [], "{block}");
            tasks.insert(manifest.task.to_string());
        }
        assert_eq!(tasks.len(), 6, "{tasks:?}");
    }
}
