//! Tests of the checks of a manifest.

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
    let manual = include_str!("../../../../docs/models.md");
    let mut tasks = HashSet::new();
    for block in manual.split("```json\n").skip(1) {
        let block = block.split("```").next().expect("a block ends");
        let manifest: Manifest = serde_json::from_str(block).expect(block);
        assert_eq!(manifest.mistakes(), [], "{block}");
        tasks.insert(manifest.task.to_string());
    }
    assert_eq!(tasks.len(), 6, "{tasks:?}");
}
