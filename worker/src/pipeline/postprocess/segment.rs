use jobs::manifest::{Manifest, MaskSpec, OutputSpec};
use serde_json::Value;

use super::mask::{CLASSES_MAX, Mask};
use crate::{pipeline::Placement, torch::Output};

/// The class of each cell of the output, to be drawn as a [`Mask`].
pub(super) fn segment(
    output: &Output,
    manifest: &Manifest,
    labels: &[String],
    placement: &Placement,
    params: &Value,
) -> Mask {
    let (rows, columns) = grid(&output.shape);
    let cells = match manifest.output.mask {
        Some(MaskSpec::ClassScores) => best_classes(&output.values, rows * columns),
        Some(MaskSpec::Threshold) => {
            let threshold = params["threshold"].as_f64().unwrap_or(0.5) as f32;
            let values = output.values.iter();
            values.map(|value| u8::from(*value > threshold)).collect()
        }
        // A number beyond the classes becomes the last class of a mask.
        Some(MaskSpec::ClassIds) | None => {
            let values = output.values.iter();
            values
                .map(|value| value.round().clamp(0.0, (CLASSES_MAX - 1) as f32) as u8)
                .collect()
        }
    };
    Mask {
        cells,
        rows,
        columns,
        input_width: manifest.input.width,
        input_height: manifest.input.height,
        placement: *placement,
        labels: labels.to_vec(),
    }
}

pub(super) fn check(spec: &OutputSpec, labels: &[String], shape: &[usize]) -> Result<(), String> {
    let mask = spec.mask.ok_or("the manifest has no output.mask")?;
    let classes = match (mask, shape) {
        (MaskSpec::ClassScores, [classes, rows, columns]) if rows * columns > 0 => Some(*classes),
        (MaskSpec::Threshold, [rows, columns] | [1, rows, columns]) if rows * columns > 0 => {
            Some(2)
        }
        (MaskSpec::ClassIds, [rows, columns] | [1, rows, columns]) if rows * columns > 0 => None,
        _ => return Err(format!("`segment` by {mask:?} does not take {shape:?}")),
    };
    match classes {
        Some(classes) if !(1..=CLASSES_MAX).contains(&classes) => Err(format!(
            "{classes} classes; a mask has at most {CLASSES_MAX}"
        )),
        Some(classes) if !labels.is_empty() && labels.len() != classes => {
            Err(format!("{} labels for {classes} classes", labels.len()))
        }
        _ => Ok(()),
    }
}

fn grid(shape: &[usize]) -> (usize, usize) {
    match shape {
        [.., rows, columns] => (*rows, *columns),
        _ => (0, 0), // `check` refuses such a shape
    }
}

/// The class with the highest score for each cell; the lower class if scores are equal. Reads the planes in memory order.
fn best_classes(scores: &[f32], cells: usize) -> Vec<u8> {
    let mut planes = scores.chunks_exact(cells);
    let mut best = planes.next().map(<[f32]>::to_vec).unwrap_or_default();
    let mut classes = vec![0; cells];
    for (plane, class) in planes.zip(1_u8..) {
        for ((best, score), known) in best.iter_mut().zip(plane).zip(&mut classes) {
            if score > best {
                (*best, *known) = (*score, class);
            }
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::given, check, segment};
    use crate::pipeline::Placement;

    fn cells(mask: &str, shape: &[usize], values: &[f32], params: &Value) -> Vec<u8> {
        let manifest = given::manifest("segment", &json!({ "mask": mask }));
        check(&manifest.output, &[], shape).expect("fits");
        let placement = Placement::of(&manifest.input, 8, 8);
        segment(
            &given::output(shape, values),
            &manifest,
            &[],
            &placement,
            params,
        )
        .cells
    }

    #[test]
    fn a_cell_is_of_the_class_with_the_highest_score() {
        let scores = [[0.1, 0.5, 0.2], [0.3, 0.5, 0.1], [0.2, 0.4, 0.9]].concat();
        assert_eq!(
            cells("class_scores", &[3, 1, 3], &scores, &json!({})),
            [1, 0, 2]
        );
    }

    #[test]
    fn a_threshold_makes_two_classes() {
        let values = [0.2, 0.5, 0.6];
        assert_eq!(cells("threshold", &[1, 3], &values, &json!({})), [0, 0, 1]);
        let lower = json!({"threshold": 0.1});
        assert_eq!(cells("threshold", &[1, 1, 3], &values, &lower), [1, 1, 1]);
    }

    #[test]
    fn ids_of_classes_are_taken_as_they_are() {
        let ids = [0.0, 7.0, -1.0, 255.0];
        assert_eq!(
            cells("class_ids", &[2, 2], &ids, &json!({})),
            [0, 7, 0, 254]
        );
    }

    #[test]
    fn a_mask_has_a_grid_and_as_many_labels_as_classes() {
        let spec = |mask: &str| given::manifest("segment", &json!({ "mask": mask })).output;
        let two = ["sky".to_owned(), "sea".to_owned()];
        assert!(check(&spec("class_scores"), &two, &[2, 4, 4]).is_ok());
        assert!(check(&spec("class_scores"), &two, &[3, 4, 4]).is_err());
        assert!(check(&spec("class_scores"), &[], &[256, 4, 4]).is_err());
        assert!(check(&spec("class_scores"), &[], &[4, 4]).is_err());
        assert!(check(&spec("threshold"), &[], &[2, 4, 4]).is_err());
        assert!(check(&spec("class_ids"), &[], &[4, 0]).is_err());
    }
}
