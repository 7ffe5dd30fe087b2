//! Turns the output for one image into the result that the client gets. Pure: no I/O, no clock, no device.
//!
//! There is a file for each task. A new task needs one function and a line in [`predict`] and in [`check`].

mod classify;
mod detect;
mod embed;
mod mask;
mod raw;
mod regress;
mod segment;

use jobs::{
    ProblemCode,
    job::StageError,
    manifest::{Manifest, Task},
};
use serde_json::Value;

pub use self::mask::{DrawnMask, Mask};
use super::placement::Placement;
use crate::torch::Output;

/// The result of one image.
#[derive(Debug, PartialEq)]
pub enum TaskResult {
    Json(Value),
    /// A mask that is not drawn yet: drawing takes too long for the inference thread.
    Mask(Mask),
}

/// Computes the result of one image.
///
/// - `placement`: where the image is in the input of the model. Places in results are pixels of the upright image.
/// - `params`: of the job, checked against the manifest at submit.
///
/// # Errors
/// [`ProblemCode::ModelError`]: the output is not finite, or has a wrong shape for the task.
pub fn predict(
    manifest: &Manifest,
    labels: &[String],
    output: &Output,
    placement: &Placement,
    params: &Value,
) -> Result<TaskResult, StageError> {
    if !output.values.iter().all(|value| value.is_finite()) {
        let detail = "the model's output for this image is not finite";
        return Err(StageError::new(ProblemCode::ModelError, detail));
    }
    check(manifest, labels, &output.shape).map_err(|why| {
        let detail = "the model's output for this image has a wrong shape for its task";
        StageError::new(ProblemCode::ModelError, detail).caused_by(anyhow::anyhow!(why))
    })?;
    Ok(match manifest.task {
        Task::Classify => TaskResult::Json(classify::classify(&output.values, labels, params)),
        Task::Embed => TaskResult::Json(embed::embed(&output.values, params)),
        Task::Regress => TaskResult::Json(regress::regress(&output.values, &manifest.output)),
        Task::Raw => TaskResult::Json(raw::raw(output)),
        Task::Detect => {
            TaskResult::Json(detect::detect(output, manifest, labels, placement, params))
        }
        Task::Segment => TaskResult::Mask(segment::segment(
            output, manifest, labels, placement, params,
        )),
    })
}

/// Checks that an output of this shape fits the task of the manifest.
///
/// # Errors
/// One sentence for the owner of the model.
pub fn check(manifest: &Manifest, labels: &[String], shape: &[usize]) -> Result<(), String> {
    match manifest.task {
        Task::Classify => classify::check(labels, shape),
        Task::Embed | Task::Raw => Ok(()),
        Task::Regress => regress::check(shape),
        Task::Detect => detect::check(&manifest.output, labels, shape),
        Task::Segment => segment::check(&manifest.output, labels, shape),
    }
}

/// The JSON number with the fewest digits that parses to this `f32`.
fn number(value: f32) -> Value {
    Value::from(value.to_string().parse::<f64>().unwrap_or_default())
}

/// Rounds to six decimals. Further decimals depend on the order of summation.
fn score(value: f32) -> Value {
    Value::from((f64::from(value) * 1e6).round() / 1e6)
}

#[cfg(test)]
mod given {
    use jobs::manifest::Manifest;
    use serde_json::{Value, json};

    use crate::torch::Output;

    /// A model with a letterbox input of 8 × 8 pixels.
    pub(super) fn manifest(task: &str, output: &Value) -> Manifest {
        serde_json::from_value(json!({
            "name": "test", "task": task, "artifact": "model.pt", "output": output,
            "input": {"width": 8, "height": 8, "resize": "letterbox", "mean": [0, 0, 0], "std": [1, 1, 1]},
        }))
        .expect("manifest")
    }

    pub(super) fn output(shape: &[usize], values: &[f32]) -> Output {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        Output {
            shape: shape.into(),
            values: values.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jobs::ProblemCode;
    use serde_json::json;

    use super::{given, predict};
    use crate::pipeline::Placement;

    #[test]
    fn an_output_that_is_not_a_number_is_a_model_error() {
        let manifest = given::manifest("embed", &json!({}));
        let placement = Placement::of(&manifest.input, 8, 8);
        let output = given::output(&[2], &[1.0, f32::NAN]);
        let error = predict(&manifest, &[], &output, &placement, &json!({})).expect_err("NaN");
        assert_eq!(error.code, ProblemCode::ModelError);
    }

    #[test]
    fn an_output_of_a_wrong_shape_is_a_model_error() {
        for (task, spec, shape) in [
            ("regress", json!({}), vec![2]),
            (
                "detect",
                json!({"boxes": {"columns": ["x1", "y1", "x2", "y2", "score"]}}),
                vec![1, 4],
            ),
            ("segment", json!({"mask": "class_scores"}), vec![2, 2]),
        ] {
            let manifest = given::manifest(task, &spec);
            let placement = Placement::of(&manifest.input, 8, 8);
            let output = given::output(&shape, &vec![0.0; shape.iter().product()]);
            let error = predict(&manifest, &[], &output, &placement, &json!({}));
            assert_eq!(error.expect_err(task).code, ProblemCode::ModelError);
        }
    }
}
