use serde_json::{Value, json};

use super::score;

/// `{"labels": [{"label", "index", "score"}]}`, the best `top_k` first; equal scores by index.
pub(super) fn classify(output: &[f32], labels: &[String], params: &Value) -> Value {
    let top_k = params["top_k"].as_u64().unwrap_or(5) as usize;
    let best = top_indices(output, top_k).into_iter().map(
        |index| json!({"label": labels.get(index), "index": index, "score": score(output[index])}),
    );
    json!({"labels": best.collect::<Vec<_>>()})
}

pub(super) fn check(labels: &[String], shape: &[usize]) -> Result<(), String> {
    let width: usize = shape.iter().product();
    if labels.is_empty() || labels.len() == width {
        return Ok(());
    }
    Err(format!("{} labels for {width} outputs", labels.len()))
}

fn top_indices(scores: &[f32], k: usize) -> Vec<usize> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{check, classify, top_indices};

    #[test]
    fn the_best_labels_come_first_and_equal_scores_in_order() {
        assert_eq!(top_indices(&[0.1, 0.5, 0.2, 0.5], 3), [1, 3, 2]);
        assert_eq!(top_indices(&[0.3], 5), [0]);
        assert!(top_indices(&[], 5).is_empty());
        let many: Vec<f32> = (0..1000_u16)
            .map(|index| f32::from(index * 7 % 1000))
            .collect();
        let best = top_indices(&many, 1000);
        assert!(best.is_sorted_by(|a, b| many[*a] >= many[*b]));
    }

    #[test]
    fn a_classification_names_its_labels() {
        let labels = ["cat".to_owned(), "dog".to_owned()];
        let result = classify(&[0.25, 0.75], &labels, &json!({"top_k": 1}));
        let expected = json!({"labels": [{"label": "dog", "index": 1, "score": 0.75}]});
        assert_eq!(result, expected);
    }

    #[test]
    fn a_model_has_as_many_labels_as_outputs_or_none() {
        let labels = ["cat".to_owned(), "dog".to_owned()];
        assert!(check(&labels, &[2]).is_ok() && check(&[], &[2]).is_ok());
        assert!(check(&labels, &[3]).is_err());
    }
}
