#![allow(
    clippy::float_cmp,
    reason = "rounded to a hundredth, from halves and quarters: exact"
)]

use jobs::manifest::Manifest;
use serde_json::{Value, json};

use super::{super::given, CANDIDATES_MAX, check, detect};
use crate::pipeline::Placement;

fn manifest(boxes: &Value) -> Manifest {
    given::manifest("detect", &json!({ "boxes": boxes }))
}

fn corners(nms_iou: Option<f64>) -> Manifest {
    manifest(&json!({"columns": ["x1", "y1", "x2", "y2", "score", "class"], "nms_iou": nms_iou}))
}

/// The boxes of an image of 16 × 8 pixels. The image fills the middle half of the input, at half its size.
fn boxes(manifest: &Manifest, shape: [usize; 2], values: &[f32], params: &Value) -> Vec<Value> {
    let placement = Placement::of(&manifest.input, 16, 8);
    let output = given::output(&shape, values);
    let labels = ["cat".to_owned(), "dog".to_owned()];
    let result = detect(&output, manifest, &labels, &placement, params);
    result["boxes"].as_array().expect("boxes").clone()
}

fn place(found: &Value) -> [f64; 4] {
    ["x", "y", "width", "height"].map(|side| found[side].as_f64().expect("a number"))
}

#[test]
fn a_box_is_in_pixels_of_the_image() {
    let found = boxes(
        &corners(None),
        [1, 6],
        &[1.0, 3.0, 5.0, 5.0, 0.9, 1.0],
        &json!({}),
    );
    assert_eq!(found.len(), 1);
    assert_eq!(place(&found[0]), [2.0, 2.0, 8.0, 4.0]);
    assert_eq!(
        (&found[0]["label"], &found[0]["index"]),
        (&json!("dog"), &json!(1))
    );
    assert_eq!(found[0]["score"], json!(0.9));
}

#[test]
fn every_layout_gives_the_same_box() {
    let by_size = manifest(&json!({"columns": ["x", "y", "width", "height", "score"]}));
    let centered =
        manifest(&json!({"columns": ["center_x", "center_y", "width", "height", "score"]}));
    let parts =
        manifest(&json!({"columns": ["score", "x1", "y1", "x2", "y2"], "unit": "fractions"}));
    for (manifest, row) in [
        (by_size, [1.0, 3.0, 4.0, 2.0, 0.9]),
        (centered, [3.0, 4.0, 4.0, 2.0, 0.9]),
        (parts, [0.9, 0.125, 0.375, 0.625, 0.625]),
    ] {
        let found = boxes(&manifest, [1, 5], &row, &json!({}));
        assert_eq!(place(&found[0]), [2.0, 2.0, 8.0, 4.0], "{manifest:?}");
    }
}

#[test]
fn the_best_class_score_is_multiplied_with_the_score_of_the_box() {
    let boxes_spec =
        json!({"columns": ["x1", "y1", "x2", "y2", "score", "class_scores"], "transposed": true});
    // Two rows, transposed: a column of the output is a box.
    let values = [
        [0.0, 0.0],
        [2.0, 2.0],
        [8.0, 8.0],
        [6.0, 6.0],
        [0.5, 1.0],
        [0.2, 0.3],
        [0.8, 0.1],
    ]
    .concat();
    let found = boxes(
        &manifest(&boxes_spec),
        [7, 2],
        &values,
        &json!({"threshold": 0.0}),
    );
    let labels_and_scores: Vec<_> = found
        .iter()
        .map(|found| (&found["label"], &found["score"]))
        .collect();
    assert_eq!(
        labels_and_scores,
        [(&json!("dog"), &json!(0.4)), (&json!("cat"), &json!(0.3))]
    );
}

#[test]
fn boxes_below_the_threshold_or_beyond_the_limit_are_left_out_and_the_best_come_first() {
    let rows: Vec<f32> = [0.3, 0.9, 0.5, 0.2]
        .into_iter()
        .flat_map(|score| [1.0, 3.0, 5.0, 5.0, score, 0.0])
        .collect();
    let scores = |params: Value| -> Vec<f64> {
        let found = boxes(&corners(None), [4, 6], &rows, &params);
        found
            .iter()
            .map(|found| found["score"].as_f64().expect("a number"))
            .collect()
    };
    assert_eq!(scores(json!({"threshold": 0.25})), [0.9, 0.5, 0.3]);
    assert_eq!(scores(json!({"threshold": 0.5})), [0.9, 0.5], "at least");
    assert_eq!(scores(json!({"threshold": 0.0, "max_boxes": 1})), [0.9]);
}

#[test]
fn the_weaker_of_two_overlapping_boxes_of_a_class_is_left_out_if_the_manifest_says_so() {
    let rows = [
        [0.0, 2.0, 4.0, 6.0, 0.8, 0.0], // the same class, 60 % shared
        [1.0, 2.0, 5.0, 6.0, 0.9, 0.0],
        [1.0, 2.0, 5.0, 6.0, 0.7, 1.0], // another class
    ]
    .concat();
    let count = |nms_iou| boxes(&corners(nms_iou), [3, 6], &rows, &json!({})).len();
    assert_eq!(count(None), 3);
    assert_eq!(count(Some(0.5)), 2);
    assert_eq!(count(Some(0.7)), 3, "60 % is no more than allowed");
}

#[test]
fn a_box_is_clipped_to_the_image_and_a_box_in_the_padding_is_left_out() {
    let over = boxes(
        &corners(None),
        [1, 6],
        &[-1.0, 0.0, 4.0, 4.0, 0.9, 0.0],
        &json!({}),
    );
    assert_eq!(place(&over[0]), [0.0, 0.0, 8.0, 4.0]);
    let outside = boxes(
        &corners(None),
        [1, 6],
        &[0.0, 0.0, 8.0, 2.0, 0.9, 0.0],
        &json!({}),
    );
    assert!(outside.is_empty(), "{outside:?}");
    let inside_out = boxes(
        &corners(None),
        [1, 6],
        &[5.0, 5.0, 1.0, 3.0, 0.9, 0.0],
        &json!({}),
    );
    assert!(inside_out.is_empty(), "{inside_out:?}");
    assert!(boxes(&corners(None), [0, 6], &[], &json!({})).is_empty());
}

/// Boxes of the key points of a body: nothing reads the key points.
#[test]
fn ignored_columns_change_nothing() {
    let pose = json!([
        "center_x", "center_y", "ignore*2", "width", "height", "score", "ignore*3"
    ]);
    let pose = manifest(&json!({"columns": pose, "transposed": true}));
    let row = [3.0, 4.0, 77.0, 77.0, 4.0, 2.0, 0.9, 77.0, 77.0, 77.0];
    assert!(check(&pose.output, &[], &[10, 1]).is_ok());
    assert!(check(&pose.output, &[], &[11, 1]).is_err());
    let found = boxes(&pose, [10, 1], &row, &json!({}));
    assert_eq!(found.len(), 1);
    assert_eq!(place(&found[0]), [2.0, 2.0, 8.0, 4.0]);
    assert_eq!(found[0]["score"], json!(0.9));
}

#[test]
fn class_scores_end_where_ignored_columns_begin() {
    let columns = json!(["x1", "y1", "x2", "y2", "class_scores", "ignore*2"]);
    let masks = manifest(&json!({ "columns": columns }));
    let labels = ["cat".to_owned(), "dog".to_owned()];
    assert!(check(&masks.output, &labels, &[1, 8]).is_ok());
    assert!(check(&masks.output, &labels, &[1, 7]).is_err());
    assert!(
        check(&masks.output, &[], &[1, 6]).is_err(),
        "no class is left"
    );
    let row = [1.0, 3.0, 5.0, 5.0, 0.3, 0.6, 0.99, 0.99];
    let found = boxes(&masks, [1, 8], &row, &json!({}));
    assert_eq!(
        (&found[0]["label"], &found[0]["score"]),
        (&json!("dog"), &json!(0.6))
    );
}

#[test]
fn each_class_of_a_row_that_reaches_the_threshold_may_be_a_box_of_its_own() {
    let spec = |per_row: &str| {
        manifest(&json!({
            "columns": ["x1", "y1", "x2", "y2", "score", "class_scores"],
            "classes_per_row": per_row, "nms_iou": 0.5
        }))
    };
    let rows = [
        [1.0, 3.0, 5.0, 5.0, 0.5, 0.8, 0.6],
        // Nearly the box above: weaker as a dog, stronger as a cat.
        [1.0, 3.0, 5.0, 5.1, 1.0, 0.5, 0.2],
    ]
    .concat();
    let found = |per_row: &str| -> Vec<(Value, Value)> {
        let found = boxes(&spec(per_row), [2, 7], &rows, &json!({"threshold": 0.2}));
        let found = found.iter();
        found
            .map(|one| (one["label"].clone(), one["score"].clone()))
            .collect()
    };
    let best = [(json!("cat"), json!(0.5))];
    assert_eq!(found("best"), best);
    let all = [(json!("cat"), json!(0.5)), (json!("dog"), json!(0.3))];
    assert_eq!(found("all"), all);
}

#[test]
fn of_very_many_detections_the_best_are_kept_in_the_order_of_their_rows() {
    let columns = json!(["x1", "y1", "x2", "y2", "class_scores"]);
    let manifest = manifest(&json!({"columns": columns, "classes_per_row": "all"}));
    let count = CANDIDATES_MAX / 2 + 1;
    let mut rows = [0.0, 2.0, 8.0, 6.0, 0.25, 0.25].repeat(count);
    rows[6 * (count - 1)] = 4.0;
    rows[6 * count - 1] = 0.5;
    let params = json!({"threshold": 0.0, "max_boxes": 10_000});
    let found = boxes(&manifest, [count, 6], &rows, &params);
    assert_eq!(found.len(), 10_000);
    assert_eq!((place(&found[0])[0], &found[0]["index"]), (8.0, &json!(1)));
    assert_eq!(
        (&found[1]["index"], &found[2]["index"]),
        (&json!(0), &json!(1))
    );
}

#[test]
fn an_output_must_have_the_columns_of_the_manifest() {
    let plain = corners(None).output;
    assert!(check(&plain, &[], &[0, 6]).is_ok());
    assert!(check(&plain, &[], &[3, 7]).is_err() && check(&plain, &[], &[3, 5]).is_err());
    assert!(check(&plain, &[], &[18]).is_err());
    let columns = json!({"columns": ["x", "y", "width", "height", "class_scores"]});
    let classes = manifest(&columns).output;
    let labels = ["cat".to_owned(), "dog".to_owned()];
    assert!(check(&classes, &labels, &[9, 6]).is_ok());
    assert!(check(&classes, &labels, &[9, 7]).is_err());
}
