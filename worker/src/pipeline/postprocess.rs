//! From the output of one image to the result that its client reads. Pure: no I/O, no clock, no device.
//!
//! A file for each task. A new kind of prediction is one function and its line in [`predict`].

mod classify;
mod detect;
mod embed;
mod mask;
mod raw;
mod regress;
mod segment;

use std::sync::Arc;

use jobs::{
    ProblemCode,
    job::StageError,
    manifest::{Manifest, Task},
};
use serde_json::Value;

pub use self::mask::{Drawn, Mask};
use super::Placement;

/// What the model said of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Without the dimension of the batch.
    pub shape: Arc<[usize]>,
    /// In the order of rows, activated as the manifest says.
    pub values: Vec<f32>,
}

/// What was made of it.
#[derive(Debug, PartialEq)]
pub enum Predicted {
    Result(Value),
    /// A picture, not drawn yet: that takes its time, and the device waits for nobody.
    Mask(Mask),
}

/// The result of one image.
///
/// - `placement`: where the image lies in the model's input; places in results are pixels of the upright image.
/// - `params`: the job's, checked against the manifest at submit.
///
/// # Errors
/// [`ProblemCode::ModelError`]: the output is not finite, or not of the shape that the task takes.
pub fn predict(
    manifest: &Manifest,
    labels: &[String],
    output: &Output,
    placement: &Placement,
    params: &Value,
) -> Result<Predicted, StageError> {
    if !output.values.iter().all(|value| value.is_finite()) {
        let detail = "the model's output for this image is not finite";
        return Err(StageError::new(ProblemCode::ModelError, detail));
    }
    check(manifest, labels, &output.shape).map_err(|why| {
        let detail = "the model's output for this image has another shape than its task takes";
        StageError::new(ProblemCode::ModelError, detail).caused_by(anyhow::anyhow!(why))
    })?;
    Ok(match manifest.task {
        Task::Classify => Predicted::Result(classify::classify(&output.values, labels, params)),
        Task::Embed => Predicted::Result(embed::embed(&output.values, params)),
        Task::Regress => Predicted::Result(regress::regress(&output.values, &manifest.output)),
        Task::Raw => Predicted::Result(raw::raw(output)),
        Task::Detect => {
            Predicted::Result(detect::detect(output, manifest, labels, placement, params))
        }
        Task::Segment => Predicted::Mask(segment::segment(
            output, manifest, labels, placement, params,
        )),
    })
}

/// Whether an output of this shape is one of the manifest's task; if not, why.
///
/// # Errors
/// A sentence for whoever pushed the model.
pub fn check(manifest: &Manifest, labels: &[String], shape: &[usize]) -> Result<(), String> {
    match manifest.task {
        Task::Classify => classify::check(labels, shape),
        Task::Embed | Task::Raw => Ok(()),
        Task::Regress => regress::check(shape),
        Task::Detect => detect::check(&manifest.output, labels, shape),
        Task::Segment => segment::check(&manifest.output, labels, shape),
    }
}

/// With the shortest digits that read back as the same f32.
fn number(value: f32) -> Value {
    Value::from(value.to_string().parse::<f64>().unwrap_or_default())
}

/// Six decimals: beyond them lies the noise of the summation order.
fn score(value: f32) -> Value {
    Value::from((f64::from(value) * 1e6).round() / 1e6)
}

#[cfg(test)]
mod given {
    use jobs::manifest::Manifest;
    use serde_json::{Value, json};

    use super::Output;

    /// A model over a letterbox of 8 × 8 pixels.
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
    fn an_output_that_is_not_a_number_is_the_models_error() {
        let manifest = given::manifest("embed", &json!({}));
        let placement = Placement::of(&manifest.input, 8, 8);
        let output = given::output(&[2], &[1.0, f32::NAN]);
        let error = predict(&manifest, &[], &output, &placement, &json!({})).expect_err("NaN");
        assert_eq!(error.code, ProblemCode::ModelError);
    }

    #[test]
    fn an_output_of_another_shape_is_the_models_error() {
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
