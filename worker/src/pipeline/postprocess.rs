//! From the output of one image to the result that its client reads. Pure: no I/O, no clock, no device.
//!
//! A new kind of prediction is one function here.

use jobs::{ProblemCode, job::StageError, manifest::Task};
use serde_json::{Value, json};

/// The result of one image.
///
/// - `output`: the model's numbers for this image, activated as its manifest says.
/// - `params`: the job's, checked against the manifest at submit.
///
/// # Errors
/// [`ProblemCode::ModelError`]: the output is not finite.
pub fn predict(
    task: Task,
    output: &[f32],
    labels: &[String],
    params: &Value,
) -> Result<Value, StageError> {
    if !output.iter().all(|value| value.is_finite()) {
        return Err(StageError::new(
            ProblemCode::ModelError,
            "the model's output for this image is not finite",
        ));
    }
    Ok(match task {
        Task::Classify => classify(output, labels, params),
        Task::Embed => embed(output, params),
    })
}

/// `{"labels": [{"label", "index", "score"}]}`, the best `top_k` first; of equals, the lower index.
fn classify(output: &[f32], labels: &[String], params: &Value) -> Value {
    let top_k = params["top_k"].as_u64().unwrap_or(5) as usize;
    let best: Vec<Value> = top(output, top_k)
        .into_iter()
        .map(|index| {
            // Six decimals: beyond them lies the noise of the summation order.
            let score = (f64::from(output[index]) * 1e6).round() / 1e6;
            json!({"label": labels.get(index), "index": index, "score": score})
        })
        .collect();
    json!({"labels": best})
}

fn top(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let better = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
    let k = k.min(order.len());
    if k < order.len() {
        order.select_nth_unstable_by(k, better);
        order.truncate(k);
    }
    order.sort_unstable_by(better);
    order
}

/// `{"embedding": […], "dim": n}`, of length 1 if `normalize` says so.
fn embed(output: &[f32], params: &Value) -> Value {
    let normalize = params["normalize"].as_bool().unwrap_or(false);
    let length = output
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt();
    let scale = if normalize && length > 0.0 {
        length.recip()
    } else {
        1.0
    };
    let embedding: Vec<Value> = output
        .iter()
        .map(|value| {
            let value = (f64::from(*value) * scale) as f32;
            // The shortest digits that read back as the same f32.
            Value::from(value.to_string().parse::<f64>().unwrap_or_default())
        })
        .collect();
    json!({"dim": embedding.len(), "embedding": embedding})
}

#[cfg(test)]
mod tests {
    use jobs::{ProblemCode, manifest::Task};
    use serde_json::json;

    use super::{predict, top};

    #[test]
    fn the_best_labels_come_first_and_equals_in_order() {
        assert_eq!(top(&[0.1, 0.5, 0.2, 0.5], 3), [1, 3, 2]);
        assert_eq!(top(&[0.3], 5), [0]);
        assert!(top(&[], 5).is_empty());
        let many: Vec<f32> = (0..1000_u16)
            .map(|index| f32::from(index * 7 % 1000))
            .collect();
        let best = top(&many, 1000);
        assert!(best.is_sorted_by(|a, b| many[*a] >= many[*b]));
    }

    #[test]
    fn a_classification_names_its_labels() {
        let labels = ["cat".to_owned(), "dog".to_owned()];
        let result = predict(Task::Classify, &[0.25, 0.75], &labels, &json!({"top_k": 1}));
        let expected = json!({"labels": [{"label": "dog", "index": 1, "score": 0.75}]});
        assert_eq!(result.expect("finite"), expected);
    }

    #[test]
    fn an_embedding_may_be_normalized() {
        let plain = predict(Task::Embed, &[3.0, 4.0], &[], &json!({"normalize": false}));
        assert_eq!(
            plain.expect("finite"),
            json!({"dim": 2, "embedding": [3.0, 4.0]})
        );
        let unit = predict(Task::Embed, &[3.0, 4.0], &[], &json!({"normalize": true}));
        assert_eq!(
            unit.expect("finite"),
            json!({"dim": 2, "embedding": [0.6, 0.8]})
        );
        let zero = predict(Task::Embed, &[0.0], &[], &json!({"normalize": true}));
        assert_eq!(zero.expect("finite"), json!({"dim": 1, "embedding": [0.0]}));
    }

    #[test]
    fn an_output_that_is_not_a_number_is_the_models_error() {
        let error = predict(Task::Embed, &[1.0, f32::NAN], &[], &json!({})).expect_err("NaN");
        assert_eq!(error.code, ProblemCode::ModelError);
    }
}
