use serde_json::{Value, json};

use super::number;

/// `{"embedding": […], "dim": n}`, of length 1 if `normalize` is true.
pub(super) fn embed(output: &[f32], params: &Value) -> Value {
    let normalize = params["normalize"].as_bool().unwrap_or(false);
    let squares = output.iter().map(|value| f64::from(*value).powi(2));
    let length = squares.sum::<f64>().sqrt();
    let scale = if normalize && length > 0.0 {
        length.recip()
    } else {
        1.0
    };
    let scaled = output
        .iter()
        .map(|value| number((f64::from(*value) * scale) as f32));
    let embedding: Vec<Value> = scaled.collect();
    json!({"dim": embedding.len(), "embedding": embedding})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::embed;

    #[test]
    fn an_embedding_may_be_normalized() {
        let plain = embed(&[3.0, 4.0], &json!({"normalize": false}));
        assert_eq!(plain, json!({"dim": 2, "embedding": [3.0, 4.0]}));
        let unit = embed(&[3.0, 4.0], &json!({"normalize": true}));
        assert_eq!(unit, json!({"dim": 2, "embedding": [0.6, 0.8]}));
        let zero = embed(&[0.0], &json!({"normalize": true}));
        assert_eq!(zero, json!({"dim": 1, "embedding": [0.0]}));
    }
}
