use serde_json::{Value, json};

use super::{MANIFEST_BYTES_MAX, ReadError};
use crate::manifest::Manifest;

fn finder() -> Value {
    json!({
        "name": "finder", "task": "detect", "artifact": "model.pt",
        "input": {"width": 640, "height": 640, "resize": "letterbox", "mean": [0, 0, 0], "std": [255, 255, 255]},
        "output": {"boxes": {"columns": ["x1", "y1", "x2", "y2", "score"]}},
        "params": {"threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.25}}
    })
}

fn mistakes(text: &str) -> Vec<String> {
    match Manifest::read(text.as_bytes()) {
        Err(ReadError::Mistakes(mistakes)) => mistakes.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?} for {text}"),
    }
}

/// The mistakes after one change of a right manifest.
fn changed(pointer: &str, value: Value) -> Vec<String> {
    let mut manifest = finder();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let parent = manifest.pointer_mut(parent).expect("parent");
    match value {
        Value::Null => drop(parent.as_object_mut().expect("object").remove(field)),
        value => parent[field] = value,
    }
    mistakes(&manifest.to_string())
}

#[test]
fn a_right_manifest_is_read_with_a_byte_order_mark_too() {
    let text = finder().to_string();
    let read = Manifest::read(text.as_bytes()).expect("right");
    assert_eq!(read.name, "finder");
    let marked = Manifest::read(format!("\u{feff}{text}").as_bytes()).expect("right");
    assert_eq!(marked, read);
}

#[test]
fn a_mistake_of_any_kind_is_named_by_its_field() {
    for (pointer, value, mistake) in [
        (
            "/artefact",
            json!("x"),
            "artefact: is unknown; did you mean `artifact`?",
        ),
        ("/artifact", Value::Null, "artifact: is missing"),
        (
            "/task",
            json!("detekt"),
            "task: `detekt` is unknown; did you mean `detect`?",
        ),
        (
            "/batch_max",
            json!("8"),
            "batch_max: wants a whole number of 0 to 65535, not \"8\"",
        ),
        (
            "/batch_max",
            json!(-1),
            "batch_max: wants a whole number of 0 to 65535, not -1",
        ),
        (
            "/labels",
            json!(["cat"]),
            "labels: wants a text, not a list",
        ),
        (
            "/input/width",
            json!(640.5),
            "input.width: wants a whole number, 0 or more, not 640.5",
        ),
        (
            "/input/width",
            Value::Null,
            "input.width: is missing or 0: wants 1 to 4096 pixels",
        ),
        (
            "/input/mean",
            json!(127),
            "input.mean: wants a list of 3, not 127",
        ),
        (
            "/input/mean",
            json!([127, 127]),
            "input.mean: wants a list of 3, not 2",
        ),
        (
            "/input/full_decode",
            json!("yes"),
            "input.full_decode: wants true or false, not \"yes\"",
        ),
        (
            "/input/resize",
            json!({"shorter_size": 256, "crop": 224}),
            "input.resize.shorter_size: is unknown; did you mean `shorter_side`?",
        ),
        (
            "/output/boxes/columns",
            json!(["x1", "y1", "x2", "y2", "scores"]),
            "output.boxes.columns[4]: `scores` is unknown; did you mean `score`?",
        ),
        ("/output", json!(5), "output: wants an object, not 5"),
        (
            "/params/threshold/default",
            Value::Null,
            "params.threshold.default: is missing",
        ),
        (
            "/params/threshold/max",
            json!(1),
            "params.threshold.max: is unknown; known are `minimum`, `maximum`, `default`",
        ),
    ] {
        assert_eq!(changed(pointer, value), [mistake], "{pointer}");
    }
}

#[test]
fn an_unknown_word_far_from_all_others_is_told_the_others() {
    let mistakes = changed("/input/resize", json!("squash"));
    assert!(
        mistakes[0].contains("`letterbox`, or an object with"),
        "{mistakes:?}"
    );
    let mistakes = changed("/task", json!("ocr"));
    assert!(
        mistakes[0].contains("known are `classify`, `embed`"),
        "{mistakes:?}"
    );
}

#[test]
fn unknown_fields_wrong_types_and_contradictions_come_in_one_list() {
    let mut manifest = finder();
    manifest["artefact"] = json!("model.pt");
    manifest.as_object_mut().expect("object").remove("artifact");
    manifest["batch_max"] = json!("8");
    manifest["input"]["std"] = json!([0, 1, 1]);
    manifest["input"]["crop_ration"] = json!(0.9);
    manifest["input"]["mean"] = json!("none");
    manifest["output"]["boxes"]["columns"] = json!(["x1", "y_1", "score", "klass"]);
    manifest["params"]["threshold"]["default"] = json!("low");
    manifest["params"]["top_k"] = json!({"type": "integer", "default": 5});
    let fields: Vec<_> = mistakes(&manifest.to_string())
        .into_iter()
        .map(|mistake| mistake.split(": ").next().expect("a field").to_owned())
        .collect();
    assert_eq!(
        fields,
        [
            "artefact",
            "batch_max",
            "input.crop_ration",
            "input.mean",
            "output.boxes.columns[1]",
            "output.boxes.columns[3]",
            "params.threshold.default",
            // The value of `crop_ration`: this `resize` crops nothing.
            "input.crop_ratio",
            "input.std",
            "params.top_k",
        ]
    );
}

/// The typo is read as the name that is nearest to it.
#[test]
fn a_typo_hides_no_mistake_of_a_field_that_depends_on_it() {
    let mut wrong = finder();
    wrong["params"]["top_k"] = json!({"type": "integer", "default": 5});
    let reads_none = "params.top_k: nothing of the task `detect` reads it";
    wrong["task"] = json!("detekt");
    assert_eq!(
        mistakes(&wrong.to_string()),
        [
            "task: `detekt` is unknown; did you mean `detect`?",
            reads_none
        ]
    );
    let manifest = wrong.as_object_mut().expect("an object");
    manifest.remove("task");
    manifest.insert("tasks".into(), json!("detect"));
    assert_eq!(
        mistakes(&wrong.to_string()),
        ["tasks: is unknown; did you mean `task`?", reads_none]
    );
    // What was meant is not known: only the mistake itself.
    wrong["tasks"] = json!("find");
    assert_eq!(
        mistakes(&wrong.to_string()),
        ["tasks: is unknown; did you mean `task`?"]
    );
}

#[test]
fn a_repaired_field_makes_no_further_mistakes() {
    // With another task, `output.boxes` would be one.
    assert_eq!(changed("/task", json!(7)).len(), 1);
    assert_eq!(changed("/output/boxes/columns", json!("x1")).len(), 1);
}

#[test]
fn what_is_no_manifest_at_all_is_refused() {
    assert_eq!(mistakes("[]"), ["the manifest: must be an object"]);
    let twice = finder()
        .to_string()
        .replacen('{', r#"{"name": "again", "#, 1);
    assert!(mistakes(&twice)[0].contains("duplicate field `name`"));
    let read = |bytes: &[u8]| Manifest::read(bytes).expect_err("refused").to_string();
    assert!(read(b"{").contains("not JSON"));
    assert!(read(b"\xff\xfe{\0").contains("UTF-16"));
    assert!(read(&vec![b' '; MANIFEST_BYTES_MAX + 1]).contains("bytes"));
    assert!(mistakes("{}").contains(&"input: is missing".to_owned()));
}
