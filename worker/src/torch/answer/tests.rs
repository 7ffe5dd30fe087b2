#![allow(
    clippy::float_cmp,
    reason = "the numbers are copied, or made of halves and quarters: exact"
)]

use jobs::manifest::{Activation, Manifest};
use serde_json::{Value, json};
use tch::{IValue, Kind, Tensor};

use super::{super::Output, AnswerSpec};

fn spec(task: &str, output: &Value) -> AnswerSpec {
    let manifest: Manifest = serde_json::from_value(json!({
        "name": "test", "task": task, "artifact": "model.pt", "output": output,
        "input": {"width": 8, "height": 8, "resize": "stretch", "mean": [0, 0, 0], "std": [1, 1, 1]},
    }))
    .expect("manifest");
    AnswerSpec::of(&manifest)
}

/// A detector whose fields are at `path`.
fn detector(path: Option<&str>) -> AnswerSpec {
    let boxes = json!({
        "columns": ["x1", "y1", "x2", "y2", "score", "class"], "fields": ["boxes", "scores", "labels"]
    });
    match path {
        Some(path) => spec("detect", &json!({"path": path, "boxes": boxes})),
        None => spec("detect", &json!({"boxes": boxes})),
    }
}

fn floats(values: &[f32], size: &[i64]) -> Tensor {
    Tensor::from_slice(values).reshape(size)
}

fn dict<const N: usize>(entries: [(&str, IValue); N]) -> IValue {
    let entries = entries.into_iter();
    IValue::GenericDict(entries.map(|(key, value)| (key.into(), value)).collect())
}

/// `boxes` boxes, as torchvision answers for one image.
fn detections(boxes: i64) -> IValue {
    let corners = Tensor::arange(4 * boxes, (Kind::Float, tch::Device::Cpu)).reshape([-1, 4]);
    let scores = Tensor::full([boxes], 0.5, (Kind::Float, tch::Device::Cpu));
    let labels = Tensor::full([boxes], 7, (Kind::Int64, tch::Device::Cpu));
    dict([
        ("boxes", corners.into()),
        ("labels", labels.into()),
        ("scores", scores.into()),
    ])
}

fn outputs(spec: &AnswerSpec, answer: &IValue, images: usize) -> Vec<Output> {
    let taken = spec.take(answer, images).expect("an output for each image");
    taken.to_host(images).expect("on the host")
}

fn refused(spec: &AnswerSpec, answer: &IValue, images: usize) -> String {
    let refused = spec.take(answer, images);
    refused.map(drop).expect_err("refused").to_string()
}

#[test]
fn a_tensor_has_a_row_for_each_image() {
    let answer = IValue::from(floats(&[1.0, 2.0, 3.0, 4.0], &[2, 2]));
    let found = outputs(&spec("raw", &json!({})), &answer, 2);
    assert_eq!(found[1].shape.as_ref(), [2]);
    assert_eq!(found[1].values, [3.0, 4.0]);
    let padded = spec("raw", &json!({})).take(&answer, 2).expect("taken");
    let found = padded.to_host(1).expect("on the host");
    assert_eq!(
        found.len(),
        1,
        "the second row only fills up the forward batch"
    );
    assert_eq!(found[0].values, [1.0, 2.0]);
}

#[test]
fn an_output_is_found_by_its_path() {
    let tensor = |value: f32| IValue::from(floats(&[value], &[1, 1]));
    let answer = IValue::Tuple(vec![
        tensor(1.0),
        dict([("out", tensor(2.0)), ("3", tensor(3.0))]),
        IValue::Tuple(vec![tensor(4.0), tensor(5.0)]),
    ]);
    for (path, value) in [("0", 1.0), ("1.out", 2.0), ("1.3", 3.0), ("2.1", 5.0)] {
        let spec = spec("raw", &json!({ "path": path }));
        assert_eq!(outputs(&spec, &answer, 1)[0].values, [value], "{path}");
    }
    let by_number = IValue::GenericDict(vec![(IValue::Int(4), tensor(6.0))]);
    let found = outputs(&spec("raw", &json!({"path": "4"})), &by_number, 1);
    assert_eq!(found[0].values, [6.0]);
}

#[test]
fn each_image_has_its_own_number_of_boxes() {
    let found = IValue::GenericList(vec![detections(2), detections(0), detections(1)]);
    let answer = IValue::Tuple(vec![dict([]), found]);
    let found = outputs(&detector(Some("1")), &answer, 3);
    let shapes: Vec<&[usize]> = found.iter().map(|output| output.shape.as_ref()).collect();
    assert_eq!(shapes, [[2, 6], [0, 6], [1, 6]]);
    let second = [4.0, 5.0, 6.0, 7.0, 0.5, 7.0];
    assert_eq!(found[0].values[6..], second, "in the order of the fields");
    assert!(found[1].values.is_empty());
    assert_eq!(found[2].values, [0.0, 1.0, 2.0, 3.0, 0.5, 7.0]);
}

#[test]
fn an_answer_without_any_box_is_an_output_of_no_rows() {
    let answer = IValue::GenericList(vec![detections(0)]);
    let found = outputs(&detector(None), &answer, 1);
    assert_eq!(found[0].shape.as_ref(), [0, 6]);
}

#[test]
fn fields_of_a_whole_batch_are_joined_too() {
    let answer = dict([
        ("boxes", floats(&[1.0; 16], &[2, 2, 4]).into()),
        ("scores", floats(&[0.1, 0.2, 0.3, 0.4], &[2, 2]).into()),
        ("labels", floats(&[1.0, 2.0, 3.0, 4.0], &[2, 2, 1]).into()),
    ]);
    let found = outputs(&detector(None), &answer, 2);
    assert_eq!(found[1].shape.as_ref(), [2, 6]);
    assert_eq!(found[1].values[6..], [1.0, 1.0, 1.0, 1.0, 0.4, 4.0]);
}

#[test]
fn a_key_at_a_list_is_taken_in_each_element() {
    let answer = IValue::GenericList(vec![detections(1), detections(2)]);
    let found = outputs(&spec("raw", &json!({"path": "scores"})), &answer, 2);
    assert_eq!(found[0].values, [0.5]);
    assert_eq!(found[1].values, [0.5, 0.5]);
    let list = IValue::TensorList(vec![floats(&[1.0], &[1]), floats(&[2.0, 3.0], &[2])]);
    let found = outputs(&spec("raw", &json!({})), &list, 2);
    assert_eq!(found[1].values, [2.0, 3.0]);
}

#[test]
fn an_activation_is_of_one_image() {
    let list = IValue::TensorList(vec![floats(&[3.0], &[1]), floats(&[0.0, 0.0], &[1, 2])]);
    let taken = spec("raw", &json!({})).take(&list, 2).expect("taken");
    let found = taken.activated(Activation::Softmax).expect("scores");
    let found = found.to_host(2).expect("on the host");
    assert_eq!(found[0].values, [1.0]);
    assert_eq!(found[1].values, [0.5, 0.5]);
}

#[test]
fn an_answer_of_another_structure_is_described() {
    let tensor = || IValue::from(floats(&[1.0, 2.0], &[1, 2]));
    let tuple = IValue::Tuple(vec![tensor(), dict([("aux", tensor())])]);
    let why = refused(&spec("raw", &json!({})), &tuple, 1);
    let answers = r#"the model answers (tensor [1, 2], {"aux": tensor [1, 2]})"#;
    let advice = "set `output.path` to `0` or `1.aux`";
    assert_eq!(why, format!("{answers}: {advice}"));
    let why = refused(&spec("raw", &json!({"path": "1.out"})), &tuple, 1);
    assert!(why.contains("no `out`; the model answers"), "{why}");
    assert!(why.ends_with(advice), "{why}");
    let why = refused(&spec("raw", &json!({"path": "0"})), &tuple, 2);
    assert!(
        why.contains("2 images gave an output of shape [1, 2]"),
        "{why}"
    );
    let list = IValue::GenericList(vec![detections(1)]);
    let why = refused(&detector(None), &list, 2);
    assert!(why.contains("2 images gave a list of 1"), "{why}");
    for path in ["2", "out", "-1"] {
        refused(&spec("raw", &json!({ "path": path })), &tuple, 1);
    }
}

#[test]
fn a_missing_path_is_proposed_only_if_the_output_can_be_taken_there() {
    let mask = IValue::from(floats(&[0.0; 12], &[1, 3, 2, 2]));
    let answer = dict([("out", mask)]);
    let why = refused(&spec("raw", &json!({})), &answer, 1);
    let expected = r#"the model answers {"out": tensor [1, 3, 2, 2]}: set `output.path` to `out`"#;
    assert_eq!(why, expected);
    let why = refused(&spec("raw", &json!({})), &answer, 2);
    assert!(!why.contains("set `output.path`"), "{why}");
    let scripted = IValue::Tuple(vec![
        dict([]),
        IValue::GenericList(vec![detections(2), detections(1)]),
    ]);
    let why = refused(&detector(None), &scripted, 2);
    assert!(
        why.starts_with("without an output.path: no `boxes`"),
        "{why}"
    );
    assert!(why.ends_with(": set `output.path` to `1`"), "{why}");
    let list = IValue::GenericList(vec![detections(1)]);
    let why = refused(&spec("raw", &json!({})), &list, 1);
    assert!(why.ends_with("to `boxes` or `labels` or `scores`"), "{why}");
}

#[test]
fn a_field_of_another_shape_is_named() {
    let answer = dict([
        ("boxes", floats(&[1.0; 4], &[1, 1, 4]).into()),
        ("scores", floats(&[0.1], &[1]).into()),
        ("labels", floats(&[1.0], &[1, 1]).into()),
    ]);
    let why = refused(&detector(None), &answer, 1);
    assert!(
        why.contains("the field `scores` has the shape [1]"),
        "{why}"
    );
}
